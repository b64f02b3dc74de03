"""The CUDA backend on the emulated device: planner, adapters, launch code and the very source of the kernels.

All kernels on CPU tensors against the float64 reference.  tests/emulator runs them; what this does not show is the
compiled machine code and its speed: that is for LSTMREP_TEST_DEVICE=cuda.
"""

from dataclasses import replace

import emulated
import pytest
import torch
from emulated_device import (
    DEVICE,
    NEEDS_EMULATOR,
    ON_CARD,
    Card,
    current_card,
    emulated_device,
    reason,
    run,
    set_schedule,
    under_schedules,
)
from kernel_cases import CASES, FLOATS, dtype_name, limits

import lstmrep
from lstmrep.backends import reference
from lstmrep.backends.tensors import Shape
from lstmrep.ops import plans
from lstmrep.plan import PlanError
from lstmrep.testing import assert_same_bits, assert_within, budget, moved
from lstmrep.testing.cases import Case, numbers

pytestmark = pytest.mark.skipif(bool(reason()), reason=reason())

KERNELS = ["stepwise", "cta_resident", "grid_resident"]
# On the small card a CTA of cta_resident has as many rows as it can, on the large one a single row; grid_resident has
# one team of few CTAs with many panels there, several teams here.
SMALL, LARGE = Card("4 SMs", 9, 0, 4, 227 << 10), Card("132 SMs", 9, 0, 132, 227 << 10)
OWN = [*CASES, Case(N=2, T=3, B=17, H=100, lengths=True, reverse=(True, False)), Case(T=40, B=2, H=16)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("card", [SMALL, LARGE], ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("case", OWN, ids=str)
def test_within_budget(case, dtype, card, kernel):
    case = replace(case, dtype=dtype)
    with emulated_device(card, kernel=kernel):
        assert_within(run(case, "cuda"), limits(case))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
def test_recompute_within_budget(dtype, kernel):
    case = Case(N=2, lengths=True, reverse=(False, True), dtype=dtype)
    with emulated_device(SMALL, kernel=kernel):
        assert_within(run(replace(case, recompute=True), "cuda"), limits(case))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("peephole", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("b", [1, 7, 17])
@pytest.mark.parametrize("h", [1, 63, 64, 100, 130])
def test_sizes_off_every_tile_under_four_schedules(h, b, dtype, peephole, kernel):
    """Both directions side by side; the order in which warps run must not change a bit."""
    case = Case(N=2, T=3, B=b, H=h, dtype=dtype, peephole=peephole, reverse=(False, True))
    for card, seeds in ((SMALL, (0, 1, 2, 3)), (LARGE, (3,))):
        with emulated_device(card, kernel=kernel) as device:
            if kernel == "cta_resident" and dtype == torch.float32 and h > 128:
                with pytest.raises(PlanError, match="H = 130 exceeds 128, the most that one CTA holds in float32"):
                    run(case, "cuda")
                continue
            results = under_schedules(device, seeds, case)
        assert_within(results[0], limits(case))
        for other in results[1:]:
            assert_same_bits(other, results[0])


def _shared(case, backend, dtype, order, vectors):
    """A run with one start state for all recurrences and the vectors as so many tensors in ``vectors``."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    kinds = {"c0": wide, "bias": vectors or wide, "peephole": vectors or wide}
    data = {k: v[:1] if k in ("h0", "c0") else v for k, v in numbers(case).items()}
    lengths, grad = data.pop("lengths", None), data.pop("grad_h")
    where = DEVICE if backend == "cuda" else torch.device("cpu")
    t = {k: moved(v, kinds.get(k, dtype), order) for k, v in data.items() if "grad" not in k}
    t = {k: v.clone().to(where).requires_grad_() for k, v in t.items()}
    lengths = None if lengths is None else lengths.to(where)
    parts = [*t.pop("bias").unbind(0)], [*t.pop("peephole").flatten(0, 1).unbind(0)]
    parts = [[v.detach().requires_grad_() for v in vectors] for vectors in parts]
    w = [[t[f"w_{kind}{n}"] for n in range(case.N)] for kind in ("ih", "hh")]
    leaves = [*t.values(), *parts[0], *parts[1]]
    h, _, c_n = lstmrep.ops.lstm(
        t["x"], *w, bias=parts[0], peephole=parts[1], h0=t["h0"], c0=t["c0"], lengths=lengths,
        reverse=case.flags, backend=backend,
    )  # fmt: skip
    made = torch.autograd.grad([h, c_n], leaves, [grad.to(h), torch.ones_like(c_n)])
    names = [*t, *(f"bias{k}" for k in range(len(parts[0]))), *(f"peephole{k}" for k in range(len(parts[1])))]
    found = {"h": h, "c_n": c_n, **{f"d_{k}": g for k, g in zip(names, made, strict=True)}}
    return {k: v.detach().cpu() for k, v in found.items()}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("size", [{"B": 2, "H": 17}, {"B": 7, "H": 20}, {"B": 40, "H": 33, "N": 3, "lengths": True}])
def test_one_start_state_and_vectors_where_they_lie(size, dtype, narrow, kernel):
    """What is summed over CTAs has the same bits whichever comes last. More CTAs than a thread loads at once."""
    case = Case(**{"N": 2, "T": 3, "dtype": dtype, **size})
    vectors = dtype if narrow else None

    def reference(d, order):
        return _shared(case, "reference", d, order, None if d == torch.float64 else vectors)

    with emulated_device(LARGE, kernel=kernel) as device:
        results = []
        for seed in (0, 1, 2, 3):
            set_schedule(device, seed)
            results.append(_shared(case, "cuda", dtype, 0, vectors))
        set_schedule(device, 0)
    assert_within(results[0], budget(reference, dtype))
    for other in results[1:]:
        assert_same_bits(other, results[0])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
def test_same_inputs_twice_same_bits(dtype, kernel):
    case = Case(N=2, T=4, B=5, H=33, lengths=True, reverse=(False, True), dtype=dtype)
    with emulated_device(SMALL, kernel=kernel):
        assert_same_bits(run(case, "cuda"), run(case, "cuda"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_inference_stores_no_gates(kernel):
    case = Case(N=2, reverse=(False, True))
    with emulated_device(SMALL, kernel=kernel):
        assert_same_bits(run(case, "cuda", gradients=False), {k: run(case, "cuda")[k] for k in ("h", "h_n", "c_n")})


@pytest.mark.parametrize("kernel", KERNELS)
def test_launches_are_counted(kernel):
    with emulated_device(SMALL, kernel=kernel) as device:
        with lstmrep.count_launches() as launches:
            run(Case(T=5), "cuda")
        expected = {"stepwise": {"pointwise": 5}, "cta_resident": {"resident": 1}, "grid_resident": {"grid": 1}}[kernel]
        assert dict(launches.own) == {f"{name}_{p}": n for name, n in expected.items() for p in ("forward", "backward")}
        if not ON_CARD:  # there torch.profiler tells, in benchmarks/gpu_stages/launch_counts.py
            assert len(device.take_launches()) == sum(launches.own.values())


def test_auto_takes_the_resident_kernel_where_it_fits_and_the_next_best_elsewhere():
    with emulated_device(LARGE), lstmrep.count_launches() as launches:
        run(Case(T=2, H=64), "cuda")
        run(Case(T=2, H=200), "cuda")
    assert dict(launches.own) == {
        "resident_forward": 1,
        "resident_backward": 1,
        "grid_forward": 1,
        "grid_backward": 1,
    }
    if ON_CARD:  # whose rates the planner has: what it takes on a part of it is no fixed thing
        return
    with emulated_device(Card("1 SM", 9, 0, 1, 48 << 10)), lstmrep.count_launches() as others:
        run(Case(T=2, H=200), "cuda")
    assert dict(others.own) == {"pointwise_forward": 2, "pointwise_backward": 2}


def _plan():
    shape = Shape(N=1, T=5, B=3, I=6, H=8, dtype=torch.float32, compute=torch.float32, device=torch.device("cpu"))
    return plans.chosen_plan(shape, True, "tanh", True, False, "auto")


@pytest.mark.skipif(ON_CARD, reason=NEEDS_EMULATOR)
def test_plans_are_made_for_the_emulated_card_and_forgotten_after():
    before, card = _plan(), current_card(emulated.module())
    with emulated_device(Card("another card", 9, 0, 132, 227 << 10)):
        made = _plan()
    assert (made.backend, made.problem.device) == ("cuda", "cuda")
    assert "another card (sm_90)" in made.describe()
    assert _plan() == before and before.backend == "cpu"
    assert current_card(emulated.module()) == card


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_view_that_starts_off_16_bytes(shift):
    """Addresses that no vector load may use: the same numbers, the same bits."""
    h = 16
    w = torch.randn(4 * h * h + 1, dtype=torch.float32).bfloat16().to(DEVICE)
    views = w[1:].view(4 * h, h), w[1:].clone().view(4 * h, h)
    assert views[0].data_ptr() % 16 and not views[1].data_ptr() % 16
    x = torch.randn(3, 2, 5).bfloat16().to(DEVICE)
    w_ih = torch.randn(4 * h, 5).bfloat16().to(DEVICE)
    with emulated_device(SMALL, kernel="cta_resident"):
        first, second = (lstmrep.ops.lstm(x, [w_ih], [v], backend="cuda")[0] for v in views[::shift])
    assert torch.equal(first, second)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_name)
def test_autocast_runs_the_kernels_in_its_dtype(dtype, kernel):
    module = lstmrep.LSTM(5, 20, peephole=True, backend="cuda", device=DEVICE)
    x = torch.randn(4, 3, 5, device=DEVICE)
    low = lstmrep.LSTM(5, 20, peephole=True, backend="cuda", device=DEVICE)
    low.load_state_dict(module.state_dict())
    with emulated_device(SMALL, kernel=kernel), torch.autocast(DEVICE.type, dtype):
        out, _ = module(x)
        out.float().square().sum().backward()
        again, _ = low(x)
    assert out.dtype == dtype
    assert torch.equal(out, again)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("kernel", KERNELS)
def test_opcheck_and_compile(kernel):
    n, t, b, i, h = 1, 3, 2, 5, 8
    x, w_ih, w_hh = (torch.randn(size, device=DEVICE) for size in ((t, b, i), (4 * h, i), (4 * h, h)))
    leaves = [v.requires_grad_() for v in (x, w_ih, w_hh)]
    arguments = (leaves[0], [leaves[1]], [leaves[2]], [], [torch.randn(n, 3, h, device=DEVICE)], None, None, None)
    with emulated_device(SMALL, kernel=kernel):
        torch.library.opcheck(torch.ops.lstmrep.lstm.default, (*arguments, t, [False], "tanh", "cuda", "all"))

        def loss(x, w_ih, w_hh):
            return lstmrep.ops.lstm(x, [w_ih], [w_hh], backend="cuda")[0].square().sum()

        eager = torch.autograd.grad(loss(*leaves), leaves)
        compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*leaves), leaves)
    assert_same_bits(dict(zip("xih", compiled, strict=True)), dict(zip("xih", eager, strict=True)))


def _tf32(t):
    """float32 rounded to 10 bits of mantissa, ties away from zero."""
    bits = t.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class _RoundedProduct(torch.Tensor):
    """Rounds both operands of a float32 matrix product to TF32."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        plain = [a.as_subclass(torch.Tensor) if isinstance(a, cls) else a for a in args]
        if func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__):
            return _tf32(plain[0]) @ _tf32(plain[1])
        made = func(*plain, **(kwargs or {}))
        keeps = func in (torch.Tensor.t, torch.Tensor.to)
        return made.as_subclass(cls) if keeps else made


@pytest.mark.parametrize("case", [Case(T=3, B=7, H=h, N=2, reverse=(False, True)) for h in (1, 16, 63, 100)], ids=str)
def test_tf32_where_torch_allows_it(case):
    """Against the reference whose recurrent products round their operands to TF32: its error is the budget."""

    def rounded(d, order):
        if d == torch.float64:
            return run(case, "reference", d, order=order)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("_run_one", "_backward_one"):
                true = getattr(reference, name)

                def with_rounding(r, *arguments, true=true):
                    w = [x.as_subclass(_RoundedProduct) for x in r.w_hh]
                    return true(replace(r, w_hh=w), *arguments)

                patch.setattr(reference, name, with_rounding)
            return run(case, "reference", d, order=order)

    limits = budget(rounded, torch.float32)
    with emulated_device(SMALL, kernel="cta_resident", tf32=True):
        got = run(case, "cuda")
    assert_within(got, limits)
    with emulated_device(SMALL, kernel="cta_resident"):
        assert not torch.equal(run(case, "cuda")["h"], got["h"]), "TF32 must differ from true float32"


def test_a_planted_error_in_the_kernel_is_caught():
    """The path under test really is the emulated kernel: the peepholes shifted by one unit must show."""
    limits = budget(lambda d, order: run(Case(), "reference", d, order=order), torch.float32)
    with emulated_device(SMALL) as device, pytest.MonkeyPatch.context() as patch:
        true_forward = device.cuda_resident_forward

        def shifted(*arguments):
            arguments = list(arguments)
            arguments[13] = [address + 4 for address in arguments[13]]  # peepholes: one float on
            return true_forward(*arguments)

        patch.setattr(device, "cuda_resident_forward", shifted)
        with pytest.raises(AssertionError, match="h: error"):
            assert_within(run(Case(), "cuda"), limits)
