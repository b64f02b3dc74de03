"""Every backend that can run here against the float64 reference, forward and every gradient, within the budget."""

import sys
from dataclasses import replace

import pytest
import torch

from lstmrep.ops import plans
from lstmrep.testing import assert_same_bits, assert_within, budget
from lstmrep.testing.cases import Case, run

BACKENDS = ["cpu", "reference"]
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]

CASES = [
    Case(),
    Case(cell="relu"),
    Case(peephole=False),
    Case(bias=False, states=False),
    Case(input="none"),
    Case(input="none", states=False),
    Case(input="gates"),
    Case(N=2, reverse=(False, True)),
    Case(N=2, input="each", lengths=True, reverse=(False, True)),
    Case(N=3, input="gates", lengths=True, reverse=(True, False, True), peephole=False),
    Case(N=2, input="none", lengths=True, cell="relu"),
    Case(N=2, lengths=True, states=False, reverse=(True, True)),
    Case(T=40, B=2, H=16),
    Case(T=1, B=1, I=1, H=1),
]
HOSTILE = [
    Case(T=3, B=b, I=7, H=h, N=n, lengths=n == 2, reverse=(False, True)[:n])
    for n in (1, 2)
    for h, b in ((1, 7), (63, 1), (100, 7), (130, 17))
]


def _check(case: Case, backend: str) -> None:
    held = replace(case, recompute=False)
    limits = budget(lambda dtype, order: run(held, "reference", dtype, order=order), case.dtype)
    assert_within(run(case, backend), limits)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_budget(case, dtype, backend):
    _check(replace(case, dtype=dtype), backend)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("case", HOSTILE, ids=str)
def test_sizes_off_every_tile(case, dtype):
    _check(replace(case, dtype=dtype), "cpu")


def test_large_sizes():
    _check(Case(T=2, B=5, I=9, H=1000), "cpu")


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("case", [c for c in CASES if c.B <= 5], ids=str)
def test_few_rows_without_a_pack(case, dtype, monkeypatch):
    """As for a large W_hh, which is read where it lies."""
    monkeypatch.setattr(sys.modules["lstmrep.plan"], "cpu_packs", lambda problem, machine: False)
    case = replace(case, B=min(case.B, 4), dtype=dtype)
    plans.reset_plans()
    try:
        _check(case, "cpu")
    finally:
        plans.reset_plans()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("case", [c for c in CASES if c.T > 1], ids=str)
def test_recompute_within_budget(case, dtype, backend):
    _check(replace(case, dtype=dtype, recompute=True), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}], ids=str)
def test_empty(sizes, backend):
    for case in (Case(**sizes), Case(N=2, reverse=(False, True), lengths="B" in sizes, **sizes)):
        _check(case, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_inputs_twice_same_bits(backend):
    case = Case(N=2, T=6, B=17, H=100, reverse=(False, True), lengths=True)
    assert_same_bits(run(case, backend), run(case, backend))


def test_thread_count_does_not_change_a_bit():
    case = Case(N=2, T=6, B=17, H=100, reverse=(False, True), lengths=True, dtype=torch.bfloat16)
    # The library products around the recurrence are torch's; only what our kernels make is held to this.
    ours = ("h", "h_n", "c_n", "d_bias", "d_peephole", "d_h0", "d_c0")
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            made = run(replace(case, input="none"), "cpu")
            results.append({name: made[name] for name in ours})
    finally:
        torch.set_num_threads(before)
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])
