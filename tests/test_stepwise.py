"""The CUDA backend's stepwise path on the host: its adapter, and the very source of its kernels, without a GPU.

The kernels are compiled as plain C++ (tests/native/emulated_pointwise.py) and take the place of the native module's
entries; the adapter then runs on CPU tensors.  What this does not show: the compiled machine code and its speed.
"""

from dataclasses import replace

import pytest
import torch
from emulated_pointwise import EmulatedPointwise

from lstmrep import backends
from lstmrep.backends import cuda
from lstmrep.testing import assert_same_bits, assert_within, budget
from lstmrep.testing.cases import Case, run

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
CASES = [
    Case(),
    Case(cell="relu", input="gates"),
    Case(peephole=False, bias=False, states=False),
    Case(input="none"),
    Case(N=2, reverse=(False, True)),
    Case(N=3, input="each", lengths=True, reverse=(True, False, True)),
    Case(N=2, input="none", lengths=True, states=False),
    Case(T=1, B=1, I=1, H=1),
    Case(N=2, T=3, B=17, H=100, lengths=True, reverse=(True, False)),
    Case(T=0),
    Case(B=0),
]


@pytest.fixture
def emulated(monkeypatch):
    """Backend "cpu" of the dispatch table becomes the CUDA adapter over the emulated kernels."""
    device = EmulatedPointwise()
    monkeypatch.setattr(cuda, "kernels", lambda: device)
    monkeypatch.setitem(backends.TABLE, "cpu", backends.TABLE["cuda"])


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_within_budget(case, dtype, recompute, emulated):
    case = replace(case, dtype=dtype)
    limits = budget(lambda d, order: run(case, "reference", d, order=order), dtype)
    assert_within(run(replace(case, recompute=recompute), "cpu"), limits)


def test_same_inputs_twice_same_bits(emulated):
    case = Case(N=2, T=4, B=5, H=33, lengths=True, reverse=(False, True), dtype=torch.bfloat16)
    assert_same_bits(run(case, "cpu"), run(case, "cpu"))


def test_inference_stores_no_gates(emulated):
    case = Case(N=2, reverse=(False, True))
    assert_same_bits(run(case, "cpu", gradients=False), {k: run(case, "cpu")[k] for k in ("h", "h_n", "c_n")})


def test_a_planted_error_in_the_kernel_is_caught(emulated, monkeypatch):
    """The path under test really is the emulated kernel: feeding it the peepholes shifted by one unit must show."""
    device = cuda.kernels()
    true_forward = device.cuda_pointwise_forward

    def shifted(*arguments):
        arguments = list(arguments)
        arguments[12] += 4  # peephole: one float on
        return true_forward(*arguments)

    monkeypatch.setattr(device, "cuda_pointwise_forward", shifted)
    limits = budget(lambda d, order: run(Case(), "reference", d, order=order), torch.float32)
    with pytest.raises(AssertionError, match="h: error"):
        assert_within(run(Case(), "cpu"), limits)
