"""Triton's kernels against the float64 reference: forward, every gradient, within the budget.

In its interpreter, or with LSTMREP_TEST_DEVICE=cuda compiled and on the real card.
"""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from emulated_device import DEVICE, ON_CARD
from kernel_cases import CASES, FLOATS, dtype_name, limits
from triton_runs import NEEDS_INTERPRETER, REASON, forked, run, triton_kernel

import lstmrep
from lstmrep import machine, trust
from lstmrep.backends import triton as backend
from lstmrep.ops import plans
from lstmrep.plan import PlanError
from lstmrep.testing import assert_same_bits, assert_within
from lstmrep.testing.cases import Case

pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
interpreted = pytest.mark.skipif(ON_CARD, reason=NEEDS_INTERPRETER)

KERNELS = ["batch_held", "grid_persistent", "batch_walked", "fused_step", "stepwise"]
OWN = [*CASES, Case(N=2, T=3, B=17, H=32, lengths=True, reverse=(True, False)), Case(T=20, B=2, H=16)]
WIDE = [Case(N=2, T=3, B=b, H=h, lengths=b == 7, reverse=(False, True)) for h, b in ((63, 7), (64, 1), (100, 17))]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("case", OWN, ids=str)
def test_within_budget(case, dtype, kernel):
    case = replace(case, dtype=dtype)
    with triton_kernel(kernel):
        assert_within(run(case, "triton"), limits(case))


@pytest.mark.parametrize("kernel", KERNELS if ON_CARD else [k for k in KERNELS if k != "grid_persistent"])
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_sizes_off_every_tile(case, dtype, kernel):
    case = replace(case, dtype=dtype)
    with triton_kernel(kernel):
        if kernel == "batch_held" and (64 if dtype != torch.float32 else 32) < case.H:
            with pytest.raises(PlanError, match="the most that one program holds"):
                run(case, "triton")
            return
        assert_within(run(case, "triton"), limits(case))


@interpreted
@pytest.mark.parametrize("programs", [8, 28], ids=lambda n: f"{n}programs")
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("case", [*WIDE, Case(N=2, T=4, B=20, H=33, reverse=(True, False))], ids=str)
def test_programs_that_wait_for_each_other(case, dtype, programs):
    """Eight programs: one team walks all tiles of rows; more: several teams. The same bits however they come."""
    case = replace(case, dtype=dtype)
    with triton_kernel("grid_persistent", programs=programs), forked():
        if programs < case.N * -(-case.H // 32):
            pytest.fail("a case for more programs than the test has")
        made = run(case, "triton")
    with triton_kernel("grid_persistent", programs=programs), forked(late=1):
        assert_same_bits(run(case, "triton"), made)
    assert_within(made, limits(case))


@interpreted
def test_who_waits_for_a_program_that_never_comes_gives_up(monkeypatch):
    """All return, what they leave is NaN, and the next call says so."""
    monkeypatch.setenv("LSTMREP_SPIN_SECONDS", "0.00002")  # 20 looks
    case = Case(T=3, B=2, H=40)
    with triton_kernel("grid_persistent", programs=8):
        with forked(absent=1):
            made = run(case, "triton", gradients=False)
        assert made["h_n"][:, :, :16].isnan().all() and made["c_n"][:, :, :16].isnan().all()
        with pytest.raises(RuntimeError, match="gave up waiting for its other CTAs"):
            run(case, "triton", gradients=False)
        monkeypatch.delenv("LSTMREP_SPIN_SECONDS")
        with forked():
            assert run(case, "triton", gradients=False)["h_n"].isfinite().all()


@interpreted
def test_without_its_barrier_a_late_program_is_noticed():
    """The test above can fail: programs that do not wait read what was not written."""
    from lstmrep.triton_kernels import grid_persistent

    case = Case(T=4, B=3, H=48)
    with (
        triton_kernel("grid_persistent", programs=8),
        mock.patch.object(grid_persistent, "arrive_and_wait", lambda counter, target, word, polls: target > 0),
        forked(late=1, delay=3.0),
        pytest.raises(AssertionError),
    ):
        assert_within(run(case, "triton"), limits(case))


@pytest.mark.parametrize("kernel", KERNELS)
def test_same_inputs_twice_same_bits(kernel):
    case = Case(N=2, T=4, B=5, H=16, lengths=True, reverse=(False, True), dtype=torch.bfloat16)
    with triton_kernel(kernel):
        assert_same_bits(run(case, "triton"), run(case, "triton"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_inference_stores_no_gates(kernel):
    case = Case(N=2, reverse=(False, True))
    with triton_kernel(kernel):
        whole = run(case, "triton")
        assert_same_bits(run(case, "triton", gradients=False), {k: whole[k] for k in ("h", "h_n", "c_n")})


@pytest.mark.parametrize("kernel", KERNELS)
def test_launches_are_counted(kernel):
    expected = {
        "stepwise": {"triton_stepwise_forward": 5, "triton_stepwise_backward": 5},
        "fused_step": {"triton_fused_step_forward": 5, "triton_fused_step_backward": 6},
        "grid_persistent": {"triton_grid_forward": 1, "triton_grid_backward": 1},
    }.get(kernel, {f"triton_{kernel}_forward": 1, f"triton_{kernel}_backward": 1})
    with triton_kernel(kernel), lstmrep.count_launches() as launches:
        run(Case(T=5), "triton")
    assert dict(launches.own) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_recompute_within_budget(kernel):
    case = Case(N=2, lengths=True, reverse=(False, True), dtype=torch.bfloat16)
    with triton_kernel(kernel):
        assert_within(run(replace(case, recompute=True), "triton"), limits(case))


def test_more_recurrences_at_uneven_addresses():
    """Three W_hh of which the second and third lie apart by another distance than the first two."""
    h = 8
    block = torch.randn(4, 4 * h, h, device=DEVICE)
    w, x = [block[0], block[1], block[3]], torch.randn(3, 2, 2, 4 * h, device=DEVICE)
    with triton_kernel("batch_held"):
        out = lstmrep.ops.lstm(x, [], w, backend="triton")[0]
    want = lstmrep.ops.lstm(x, [], w, backend="reference")[0]
    torch.testing.assert_close(out, want)


def test_a_module_runs_on_it():
    module = lstmrep.LSTM(3, 4, peephole=True, backend="triton", device=DEVICE)
    other = lstmrep.LSTM(3, 4, peephole=True, backend="reference", device=DEVICE)
    other.load_state_dict(module.state_dict())
    x = torch.randn(5, 2, 3, device=DEVICE)
    torch.testing.assert_close(module(x)[0], other(x)[0])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "stepwise"])
def test_a_right_kernel_is_trusted_at_its_first_use(kernel, backward, monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMREP_VERIFY", "first-use")
    monkeypatch.setenv("LSTMREP_CACHE_DIR", str(tmp_path))
    case = Case(N=2, T=5, B=3, H=16)
    with triton_kernel(kernel), lstmrep.count_launches() as launches:
        run(case, "triton", gradients=backward)
        run(case, "triton", gradients=backward)
    checks = launches.own["triton_stepwise_forward"]
    assert checks == 3 * (1 + backward)  # three steps for each pass that is checked, once
    found = trust.stored()
    assert len(found) == 1 + backward and all(verdict.right for verdict in found.values())
    assert all(kernel in key for key in found)
    assert ON_CARD or all("Triton's interpreter, triton" in key for key in found)


def test_a_wrong_kernel_gives_way_to_stepwise(monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMREP_VERIFY", "first-use")
    monkeypatch.setenv("LSTMREP_CACHE_DIR", str(tmp_path))
    right = backend._FORWARD["batch_held"]

    def wrong(how, call, r, a):
        right(how, call, r, a)
        a.h[..., 0] += 0.25

    monkeypatch.setitem(backend._FORWARD, "batch_held", wrong)
    with (
        triton_kernel("batch_held"),
        pytest.raises(RuntimeError, match=r"disagrees with stepwise .* set LSTMREP_TRITON_KERNEL=stepwise"),
    ):
        run(Case(H=16), "triton", gradients=False)
    assert [verdict.right for verdict in trust.stored().values()] == [False]


@pytest.mark.parametrize(
    ("version", "why"), [(None, "triton is not installed"), ("3.3.1", "triton 3.3.1 is older than 3.4")]
)
def test_without_a_triton_that_can_be_used_it_says_so(version, why, monkeypatch):
    def found(name):
        if version is None:
            raise machine.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(machine.metadata, "version", found)
    machine.reset()
    plans.reset_plans()
    try:
        with pytest.raises(PlanError, match=why):
            run(Case(), "triton")
    finally:
        machine.reset()
        plans.reset_plans()
