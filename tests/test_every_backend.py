"""Every backend of the dispatch table on the same hostile cases, within one budget: forward and all gradients.

cuda runs on the emulated device and triton in its interpreter, each with the kernel that its planner takes.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from emulated_device import Card, emulated_device, reason, run
from kernel_cases import FLOATS, dtype_name, limits
from triton_runs import REASON

from lstmrep.backends import TABLE
from lstmrep.testing import assert_within
from lstmrep.testing.cases import Case

CARD = Card("132 SMs", 9, 0, 132, 227 << 10)
MISSING = {"cuda": reason(), "triton": REASON}
CASES = [
    Case(T=1, B=1, I=1, H=1),
    Case(N=2, T=3, B=7, H=63, lengths=True, reverse=(True, False)),
    Case(T=3, B=1, H=100, cell="relu", bias=False),
    Case(N=3, T=2, B=17, H=33, input="none", lengths=True, peephole=False, reverse=(False, True, False)),
    Case(N=2, T=4, B=3, H=64, input="gates", states=False),
    Case(N=2, T=2, B=2, H=130, input="each", reverse=(False, True)),
]


@pytest.mark.parametrize("backend", TABLE)
@pytest.mark.parametrize("dtype", FLOATS, ids=dtype_name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_one_budget(case, dtype, backend):
    if MISSING.get(backend):
        pytest.skip(MISSING[backend])
    case = replace(case, dtype=dtype)
    with emulated_device(CARD) if backend == "cuda" else nullcontext():
        assert_within(run(case, backend), limits(case))
