"""The comparers and budgets themselves: each must fail when it should."""

from dataclasses import replace

import pytest
import torch

from lstmrep.testing import assert_same_bits, assert_within, budget, largest_error, moved, rounding
from lstmrep.testing.cases import Case, run


def _limits(case: Case):
    return budget(lambda dtype, order: run(case, "reference", dtype, order=order), case.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_budget_refuses_small_planted_errors(dtype):
    case = Case(dtype=dtype, T=20)
    limits = _limits(case)
    good = run(case, "reference")
    assert_within(good, limits)
    eps = torch.finfo(dtype).eps
    for name, value in good.items():
        planted = value.double().clone()
        planted.view(-1)[planted.abs().argmax()] *= 1 + 200 * eps
        with pytest.raises(AssertionError, match=name):
            assert_within({**good, name: planted}, limits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peephole": False},
        {"cell": "relu"},
        {"bias": False},
        {"states": False},
    ],
    ids=str,
)
def test_budget_refuses_another_cell(wrong):
    limits = _limits(Case())
    got = run(replace(Case(), **wrong), "reference")
    with pytest.raises(AssertionError):
        assert_within({**run(Case(), "reference"), **{k: got[k] for k in ("h", "h_n", "c_n")}}, limits)


def test_budget_refuses_nan_missing_results_and_wrong_shapes():
    limits = _limits(Case())
    good = run(Case(), "reference")
    poisoned = good["h"].clone()
    poisoned.view(-1)[0] = float("nan")
    with pytest.raises(AssertionError, match="h: error inf"):
        assert_within({**good, "h": poisoned}, limits)
    with pytest.raises(AssertionError, match="missing: h"):
        assert_within({k: v for k, v in good.items() if k != "h"}, limits)
    with pytest.raises(AssertionError, match="shape"):
        assert_within({**good, "h": good["h"][:, 1:]}, limits)


def test_budget_grows_with_precision_lost():
    allowed = [_limits(Case(dtype=d)).allowed["h"] for d in (torch.float64, torch.float32, torch.bfloat16)]
    assert allowed[0] < allowed[1] < allowed[2]


def test_shuffled_order_is_the_same_case():
    """In float64 another order of the sums is the same result up to rounding: far below any budget's scale."""
    case = Case(N=2, dtype=torch.float64, lengths=True, reverse=(False, True))
    plain, shuffled = run(case, "reference"), run(case, "reference", order=2)
    for name, value in plain.items():
        assert largest_error(shuffled[name], value) <= rounding(value, torch.float32)
        assert value.abs().max() > 0


def test_moved_moves_by_at_most_one_rounding():
    t = torch.randn(1000, dtype=torch.float64)
    eps = torch.finfo(torch.float32).eps
    assert torch.equal(moved(t, torch.float32, 0), t.float())
    shift = (moved(t, torch.float32, 1) / t.float() - 1).abs()
    assert 0 < shift.max() <= 2 * eps
    assert torch.equal(moved(t, torch.bfloat16, 1), t.bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_draws_in_16_bits_are_of_other_numbers_and_held_against_their_own_truth(dtype):
    numbers, seen = torch.randn(1000, dtype=torch.float64).to(dtype), {}

    def run(precision, order):
        seen[precision, order] = moved(numbers.double(), precision, order)
        return {"y": seen[precision, order].double().exp().to(precision)}

    limits = budget(run, dtype)
    for order in range(1, 4):
        drawn, true = seen[dtype, order], seen[torch.float64, order]
        assert torch.equal(drawn.double(), true) and not torch.equal(drawn, numbers)
        shift = (drawn.double() / numbers.double() - 1).abs()
        assert 0 < shift.max() <= 1.5 * torch.finfo(dtype).eps
    # Of the exponential's rounding alone, not of what moving its argument does to it.
    assert limits.allowed["y"] <= 4 * rounding(limits.truth["y"], dtype)


def test_same_bits_refuses_a_flipped_sign_of_zero():
    assert_same_bits({"a": torch.tensor([0.0, float("nan")])}, {"a": torch.tensor([0.0, float("nan")])})
    with pytest.raises(AssertionError, match="not the same bits"):
        assert_same_bits({"a": torch.tensor([-0.0])}, {"a": torch.tensor([0.0])})
    with pytest.raises(AssertionError, match="names differ"):
        assert_same_bits({}, {"a": torch.zeros(1)})
