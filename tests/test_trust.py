"""Trust on first use, on the emulated device: when kernels are checked, what a mismatch does, what is remembered."""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import emulated
import pytest
import torch
from emulated_device import NEEDS_EMULATOR, ON_CARD, Card, emulated_device
from torch._subclasses.fake_tensor import FakeTensorMode

import lstmrep
from lstmrep import env, trust
from lstmrep.backends import cuda, stepwise
from lstmrep.backends.tensors import Shape
from lstmrep.ops import plans
from lstmrep.plan import CudaPass, Problem
from lstmrep.testing import assert_same_bits
from lstmrep.testing.cases import Case, run
from lstmrep.trust.verdicts import Verdict, Verdicts

pytestmark = [
    pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason()),
    pytest.mark.skipif(ON_CARD, reason=NEEDS_EMULATOR),
]

SMALL = Card("2 SMs", 9, 0, 2, 227 << 10)
CASE = Case(N=2, T=4, B=5, H=33)
OUTPUTS = {"h": 20, "h_n": 21, "c_n": 22, "gates": 23, "c": 24}  # arguments of cuda_resident_forward
OF_A_CALL = {"resident_forward": 1, "resident_backward": 1}
# The checks of both passes, three steps each; that of the backward pass first runs forward to have gates.
OF_A_CHECK = {"resident_forward": 1, "resident_backward": 1, "pointwise_forward": 6, "pointwise_backward": 3}
BOTH = {name: OF_A_CALL.get(name, 0) + n for name, n in OF_A_CHECK.items()}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Every test checks at first use and keeps verdicts in a folder of its own."""
    monkeypatch.setenv("LSTMREP_VERIFY", "first-use")
    monkeypatch.setenv("LSTMREP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _launches(case=CASE, backend="cuda", **how):
    with lstmrep.count_launches() as launches:
        run(case, backend, **how)
    return dict(launches.own)


def _stored(folder):
    return json.loads((folder / "verdicts.json").read_text())["verdicts"]


SHAPES = [(n, b, h) for n in (1, 2) for b in (1, 9) for h in (1, 8, 64, 128)]
KINDS = [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.float16, False)]


def _shape(n, b, h, dtype):
    return Shape(N=n, T=9, B=b, I=4, H=h, dtype=dtype, compute=torch.float32, device=torch.device("cpu"))


def _shares(text):
    """The output that the figures are of, and their shares of what is allowed."""
    number = r"([^\s,;)]+)"
    pattern = rf"(\w+): largest error {number}, allowed {number}; root mean square {number}, allowed {number}"
    name, *figures = re.search(pattern, text).groups()
    largest, allowed_largest, typical, allowed_typical = map(float, figures)
    return name, (largest / allowed_largest, typical / allowed_typical)


def _stepwise(case=CASE, **how):
    with emulated_device(SMALL, kernel="stepwise"):
        return run(case, "cuda", **how)


def _spoiling(device, patch, name="h", value=0.5):
    """Adds to the first element of an output of each forward launch of cta_resident."""
    true_forward = device.cuda_resident_forward

    def spoilt(*arguments):
        true_forward(*arguments)
        if arguments[OUTPUTS[name]]:
            first = (ctypes.c_float * 1).from_address(arguments[OUTPUTS[name]])
            first[0] += value

    patch.setattr(device, "cuda_resident_forward", spoilt)


def test_a_right_kernel_is_checked_once_whatever_the_number_of_steps():
    with emulated_device(SMALL):
        assert _launches() == BOTH
        assert _launches() == OF_A_CALL
        assert _launches(Case(N=2, T=9, B=5, H=33)) == OF_A_CALL
        assert _launches(Case(N=2, T=4, B=5, H=32)) == BOTH


def test_after_the_first_call_with_a_plan_nothing_is_decided_again(monkeypatch):
    with emulated_device(SMALL):
        run(CASE, "cuda")
        monkeypatch.setattr(trust, "_decide", None)
        run(CASE, "cuda")


def test_verdicts_outlive_the_process(folder):
    with emulated_device(SMALL):
        _launches()
    found = _stored(folder)
    assert len(found) == 2
    assert all(v["right"] and "allowed" in v["figures"] for v in found.values())
    forward = next(key for key in found if "; forward; " in key)
    for part in ("2 SMs sm_90, driver 13000", f"lstmrep {lstmrep.__version__}", "kernel='cta_resident'", "tf32=False"):
        assert part in forward
    assert forward.endswith("float32 tanh peephole N=2 B=5 H=33")
    with emulated_device(SMALL):  # forgets what is in memory
        assert _launches() == OF_A_CALL


@pytest.mark.parametrize(
    "other",
    [
        Case(N=1, T=4, B=5, H=33),
        Case(N=2, T=4, B=6, H=33),
        Case(N=2, T=4, B=5, H=33, peephole=False),
        Case(N=2, T=4, B=5, H=33, cell="relu"),
        Case(N=2, T=4, B=5, H=33, dtype=torch.bfloat16),
    ],
    ids=str,
)
def test_another_class_is_checked_for_itself(other):
    with emulated_device(SMALL):
        _launches()
        assert _launches(other) == BOTH


def test_another_card_or_tf32_is_checked_for_itself(folder):
    for card, tf32 in ((SMALL, False), (SMALL, True), (Card("another", 9, 0, 2, 227 << 10), False)):
        with emulated_device(card, tf32=tf32):
            assert _launches() == BOTH
    assert len(_stored(folder)) == 6


def test_always_checks_every_call_and_never_none(monkeypatch, folder):
    monkeypatch.setenv("LSTMREP_VERIFY", "always")
    with emulated_device(SMALL):
        assert _launches() == _launches() == BOTH
    monkeypatch.setenv("LSTMREP_VERIFY", "never")
    with emulated_device(SMALL):
        assert _launches(Case()) == OF_A_CALL
    assert len(_stored(folder)) == 2


def test_a_value_that_is_not_known_is_one_error(monkeypatch):
    monkeypatch.setenv("LSTMREP_VERIFY", "sometimes")
    with emulated_device(SMALL), pytest.raises(ValueError, match="LSTMREP_VERIFY='sometimes' is not known; choose one"):
        run(CASE, "cuda")


def test_stepwise_and_empty_batches_are_not_checked():
    with emulated_device(SMALL, kernel="stepwise"):
        assert set(_launches()) == {"pointwise_forward", "pointwise_backward"}
    with emulated_device(SMALL):
        assert _launches(Case(B=0)) == {}


def test_threads_that_come_at_once_share_one_check(monkeypatch):
    true_compared = trust.compared

    def slowly(*arguments):
        time.sleep(0.2)  # long enough for the other threads to come
        return true_compared(*arguments)

    monkeypatch.setattr(trust, "compared", slowly)

    def forward(_):
        return lstmrep.ops.lstm(torch.ones(1, 3, 2, 32), [], [torch.eye(8).repeat(4, 1)], backend="cuda")[0]

    with emulated_device(SMALL) as device, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(forward, range(4)))
        assert len(device.take_launches()) == 3 + 1 + 4
    assert all(torch.equal(results[0], other) for other in results)


@pytest.mark.parametrize(
    "surroundings",
    [torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"), FakeTensorMode()],
    ids=["inference_mode", "autocast", "default_device", "fake_mode"],
)
def test_the_caller_s_modes_do_not_reach_the_check(surroundings):
    """The backend called directly, as if a mode were around it that the op itself does not meet."""
    shape = _shape(1, 2, 8, torch.float32)
    with emulated_device(SMALL) as device, warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = plans.chosen_plan(shape, True, "tanh", True, False, "auto")
        with surroundings:
            how = [trust.trusted(plan, backward, shape, cuda._PASSES) for backward in (False, True)]
        assert [h.kernel for h in how] == ["cta_resident"] * 2
        assert len(device.take_launches()) == 3 + 1 + 3 + 3 + 1


def test_the_check_changes_no_result_and_no_random_state(monkeypatch):
    monkeypatch.setenv("LSTMREP_VERIFY", "never")
    with emulated_device(SMALL):
        plain = run(CASE, "cuda")
    monkeypatch.setenv("LSTMREP_VERIFY", "first-use")
    before = torch.get_rng_state()
    with emulated_device(SMALL):
        assert_same_bits(run(CASE, "cuda"), plain)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"form": 1, "verdicts": [1]}', '{"form": 2, "verdicts": {}}'])
def test_a_file_that_is_corrupt_or_of_another_form_is_written_anew(folder, content):
    folder.mkdir()
    (folder / "verdicts.json").write_text(content)
    with emulated_device(SMALL):
        assert _launches() == BOTH
    assert len(_stored(folder)) == 2


def test_a_folder_that_cannot_be_written_leaves_memory(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LSTMREP_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with emulated_device(SMALL), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _launches() == BOTH
        assert _launches() == OF_A_CALL


def test_a_read_only_folder_leaves_memory(folder):
    folder.mkdir(mode=0o500)
    user = os.geteuid()
    with emulated_device(SMALL):
        if user == 0:
            os.seteuid(65534)  # root writes into any folder, nobody does not
        try:
            launches = _launches(), _launches()
        finally:
            os.seteuid(user)
    assert launches == (BOTH, OF_A_CALL)
    assert not list(folder.iterdir())


def test_where_the_file_lies(monkeypatch, tmp_path):
    assert trust.place() == tmp_path / "cache" / "verdicts.json"
    monkeypatch.delenv("LSTMREP_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert env.cache_folder() == tmp_path / "xdg" / "lstmrep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert env.cache_folder() == tmp_path / ".cache" / "lstmrep"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert trust.place() is None
    with emulated_device(SMALL):
        assert _launches() == BOTH
        assert _launches() == OF_A_CALL
    assert "0 right, 0 wrong, kept in nowhere" in lstmrep.show_config()


WRITER = """
import sys, time
from pathlib import Path
from lstmrep.trust.verdicts import Verdict, Verdicts
name, folder = sys.argv[1], Path(sys.argv[2])
verdicts = Verdicts()
(folder / name).touch()
while not (folder / "go").exists():
    time.sleep(0.001)
for j in range(40):
    verdicts.put(f"{name} {j}", Verdict(True, "none"))
"""


def test_two_processes_that_write_at_once_lose_nothing(folder, tmp_path):
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
        for name in ("first", "second")
    ]
    while not all((tmp_path / name).exists() for name in ("first", "second")):
        assert all(w.poll() is None for w in writers), "a writer ended before it wrote"
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [w.wait(timeout=120) for w in writers] == [0, 0]
    assert sorted(_stored(folder)) == sorted(f"{name} {j}" for name in ("first", "second") for j in range(40))
    assert {p.name for p in folder.iterdir()} == {"verdicts.json", "verdicts.json.lock"}


def test_a_mismatch_is_believed_over_another_process_s_success():
    ours, theirs = Verdicts(), Verdicts()
    theirs.put("key", Verdict(False, "wrong"))
    ours.put("key", Verdict(True, "right"))
    assert Verdicts().get("key") == Verdict(False, "wrong")


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_wrong_kernel_gives_way_to_stepwise_with_one_warning(name, folder):
    """Every output is compared: one wrong element in any shows. The backward pass, which is right, stays."""
    with emulated_device(SMALL) as device, pytest.MonkeyPatch.context() as patch:
        _spoiling(device, patch, name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            first, again = run(CASE, "auto"), run(CASE, "auto")
            launches = _launches(backend="auto")
    assert launches == {"pointwise_forward": CASE.T, "resident_backward": 1}
    (warning,) = caught
    text = str(warning.message)
    assert warning.category is RuntimeWarning
    assert text.startswith("lstmrep: the cta_resident kernel's forward pass disagrees with stepwise (")
    figures = f"({name}: largest error 5.0e-01, allowed"
    for part in (figures, "root mean square", "N=2 B=5 H=33", "stepwise runs in its place", "delete"):
        assert part in text
    expected = _stepwise()
    assert_same_bits({k: first[k] for k in ("h", "h_n", "c_n")}, {k: expected[k] for k in ("h", "h_n", "c_n")})
    assert_same_bits(again, first)
    assert sorted(v["right"] for v in _stored(folder).values()) == [False, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_never_passes(value):
    with emulated_device(SMALL) as device, pytest.MonkeyPatch.context() as patch:
        _spoiling(device, patch, "c", value)
        with pytest.warns(RuntimeWarning, match=r"c: largest error (nan|inf), allowed"):
            run(CASE, "auto")


def test_an_output_that_is_not_written_never_passes():
    with emulated_device(SMALL) as device, pytest.MonkeyPatch.context() as patch:
        true_backward = device.cuda_resident_backward
        without_d_c0 = lambda *arguments: true_backward(*arguments[:-5], 0, *arguments[-4:])  # noqa: E731
        patch.setattr(device, "cuda_resident_backward", without_d_c0)
        with pytest.warns(RuntimeWarning, match=r"backward pass disagrees with stepwise \(d_c0: largest error nan"):
            got = run(CASE, "auto")
    assert got["d_c0"].isfinite().all()


def test_a_small_error_everywhere_is_seen_where_no_element_is_far_off():
    """The second bound: bfloat16 outputs all off by two parts in a hundred."""
    case = Case(N=1, T=2, B=4, H=64, dtype=torch.bfloat16)
    with emulated_device(SMALL) as device, pytest.MonkeyPatch.context() as patch:
        true_forward = device.cuda_resident_forward

        def louder(*arguments):
            true_forward(*arguments)
            n, t, b, h = arguments[5:9]
            c = (ctypes.c_float * (n * t * b * h)).from_address(arguments[OUTPUTS["c"]])
            c[:] = [1.02 * x for x in c]

        patch.setattr(device, "cuda_resident_forward", louder)
        with pytest.warns(RuntimeWarning, match="disagrees") as caught:
            run(case, "auto")
    name, shares = _shares(str(caught[0].message))
    assert name == "c" and shares[0] < 1 < shares[1]


@pytest.mark.parametrize("cell", ["tanh", "relu"])
@pytest.mark.parametrize(("dtype", "tf32"), KINDS, ids=str)
def test_right_kernels_keep_well_within_what_is_allowed(dtype, tf32, cell):
    worst = 0.0
    with emulated_device(SMALL, tf32=tf32):
        for n, b, h in SHAPES:
            shape = _shape(n, b, h, dtype)
            plan = plans.chosen_plan(shape, True, cell, True, False, "cuda")
            for backward in (False, True):
                for seed in range(3):
                    verdict = trust.compared(cuda._PASSES, plan.cuda[backward], backward, plan.problem, shape, seed)
                    worst = max(worst, *_shares(verdict.figures)[1])
    assert 0 < worst < 0.5


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_one_tile_left_out_of_a_long_sum_is_seen(dtype, backward, monkeypatch):
    """16 terms of 512, by a stepwise path whose products lack them; with all terms in another order it passes."""
    true_product, least = stepwise.wide_product, [0]

    def in_tiles(a, w, out):
        w = w.to(out.dtype)
        out.zero_()
        for k in reversed(range(least[0], w.shape[0], 16)):
            out += a[:, k : k + 16].to(out.dtype) @ w[k : k + 16]

    def tiled(run):
        def by(how, r, a):
            monkeypatch.setattr(stepwise, "wide_product", true_product if how.kernel == "stepwise" else in_tiles)
            run(r, a)

        return by

    with emulated_device(SMALL) as device:
        passes = trust.Passes(lambda: device, tiled(cuda._stepwise_forward), tiled(cuda._stepwise_backward))
        problem = Problem(hidden_size=512, peephole=True)
        for least[0] in (0, 16):
            verdict = trust.compared(passes, CudaPass("tiled"), backward, problem, _shape(1, 4, 512, dtype), 0)
            assert verdict.right == (least[0] == 0), verdict.figures


def test_a_mismatch_from_the_file_is_honoured_without_a_check(folder):
    with emulated_device(SMALL):
        run(CASE, "auto")
    stored = json.loads((folder / "verdicts.json").read_text())
    for key, verdict in stored["verdicts"].items():
        if "; forward; " in key:
            verdict.update(right=False, figures="h: largest error 7.0e+00, allowed 1.0e-05")
    (folder / "verdicts.json").write_text(json.dumps(stored))
    with emulated_device(SMALL), pytest.warns(RuntimeWarning, match=r"h: largest error 7.0e\+00"):
        assert _launches(backend="auto") == {"pointwise_forward": CASE.T, "resident_backward": 1}
    shown = lstmrep.show_config()
    assert f"verdicts  1 right, 1 wrong, kept in {folder / 'verdicts.json'}" in shown
    assert "wrong     h: largest error 7.0e+00, allowed 1.0e-05; 2 SMs sm_90" in shown


@pytest.mark.parametrize(("backend", "kernel"), [("cuda", "auto"), ("auto", "cta_resident")])
def test_a_wrong_kernel_without_a_choice_raises_each_time(backend, kernel):
    with emulated_device(SMALL, kernel=kernel) as device, pytest.MonkeyPatch.context() as patch:
        _spoiling(device, patch)
        expected = (
            r"disagrees with stepwise \(h: largest error 5.0e-01, allowed .*; set LSTMREP_CUDA_KERNEL=stepwise, or"
        )
        for _ in range(2):
            with pytest.raises(RuntimeError, match=expected):
                run(CASE, backend)


def test_during_capture_an_unchecked_kernel_gives_way_and_is_checked_after(monkeypatch):
    with emulated_device(SMALL):
        monkeypatch.setattr(trust, "capturing", lambda device: True)
        with pytest.warns(RuntimeWarning, match="make the same call once before the capture") as caught:
            launches = [_launches(gradients=False) for _ in range(2)]
        assert launches == [{"pointwise_forward": CASE.T}] * 2
        assert len([w for w in caught if w.category is RuntimeWarning]) == 1
        monkeypatch.setattr(trust, "capturing", lambda device: False)
        assert _launches(gradients=False) == {"resident_forward": 2, "pointwise_forward": 3}
        assert _launches() == {**BOTH, "resident_forward": 1, "pointwise_forward": 3}
        monkeypatch.setattr(trust, "capturing", lambda device: True)
        plans.reset_plans()  # what is known from the file may be captured
        assert _launches() == OF_A_CALL


def test_during_capture_always_goes_by_the_last_check(monkeypatch):
    monkeypatch.setenv("LSTMREP_VERIFY", "always")
    with emulated_device(SMALL), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _launches() == BOTH
        monkeypatch.setattr(trust, "capturing", lambda device: True)
        assert _launches() == OF_A_CALL


def test_capture_is_asked_of_the_tensors_device(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(asked))
    assert not trust.capturing(torch.device("cpu"))
    assert trust.capturing(torch.device("cuda", 1)) and asked == [torch.device("cuda", 1)]


def test_fake_tensors_reach_no_kernel_and_leave_no_verdict(folder):
    with emulated_device(SMALL) as device:
        with FakeTensorMode():
            x, w_ih, w_hh = torch.randn(3, 2, 5), torch.randn(32, 5), torch.randn(32, 8)
            h, _, _ = lstmrep.ops.lstm(x, [w_ih], [w_hh], backend="cuda")
        assert tuple(h.shape) == (1, 3, 2, 8)
        assert not device.take_launches()
    assert not folder.exists()


def test_compiled_and_mapped_calls_are_checked_when_they_run():
    x, w_ih, w_hh = torch.randn(3, 2, 5), torch.randn(32, 5), torch.randn(32, 8)

    def call(x, w_ih, w_hh):
        return lstmrep.ops.lstm(x, [w_ih], [w_hh], backend="cuda")[0]

    with emulated_device(SMALL) as device:
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(x, w_ih, w_hh)
        assert len(device.take_launches()) == 3 + 1 + 1  # stepwise and the kernel in the check, then the kernel
        assert torch.equal(compiled, call(x, w_ih, w_hh))
        device.take_launches()
        mapped = torch.func.vmap(call, in_dims=(0, None, None))(torch.stack([x, -x]), w_ih, w_hh)
        assert len(device.take_launches()) == 3 + 1 + 1, "two recurrences are another class than one"
        assert torch.equal(mapped, torch.stack([call(x, w_ih, w_hh), call(-x, w_ih, w_hh)]))
        gradient = torch.func.grad(lambda w: call(x, w_ih, w).sum())(w_hh)
    assert gradient.isfinite().all()


def test_plans_forgotten_are_decided_again_from_what_is_known():
    with emulated_device(SMALL):
        _launches()
        plans.reset_plans()
        assert not trust._decided
        assert _launches() == OF_A_CALL


def test_a_kernel_that_gives_up_in_its_check_is_not_used_and_not_blamed_for_good(folder):
    with emulated_device(SMALL) as device:
        with pytest.MonkeyPatch.context() as patch:
            true_forward = device.cuda_resident_forward

            def tired(*arguments):
                true_forward(*arguments)
                device.give_up(0, 9)

            patch.setattr(device, "cuda_resident_forward", tired)
            with pytest.warns(RuntimeWarning, match="gave up waiting for its other CTAs, code 9"):
                run(CASE, "auto", gradients=False)
        lstmrep.check()
        assert _launches(backend="auto", gradients=False) == {"pointwise_forward": CASE.T}
    assert not folder.exists()
