"""What the tests of CUDA's and Triton's kernels share: dtypes, cases, and the budget of a case."""

import functools

import torch

from lstmrep.testing import budget
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
    Case(N=2, lengths=True, cell="relu", states=False, bias=False, reverse=(True, True)),
    Case(T=1, B=1, I=1, H=1),
    Case(T=0),
    Case(T=0, lengths=True),
    Case(B=0),
]


def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")


@functools.cache
def limits(case):
    """The budget of a case, derived from the reference backend on the CPU."""
    return budget(lambda d, order: run(case, "reference", d, order=order), case.dtype)
