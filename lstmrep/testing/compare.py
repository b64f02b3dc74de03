"""Comparers that fail loudly: wrong shapes, NaN, errors above the budget. They have tests that show they fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lstmrep.testing.tolerance import Budget


def largest_error(got: Tensor, truth: Tensor) -> float:
    """Largest absolute difference; infinite where either is not finite, or the shapes differ."""
    if got.shape != truth.shape:
        return float("inf")
    if not got.numel():
        return 0.0
    difference = (got.detach().double() - truth.detach().double()).abs()
    return float(torch.where(difference.isnan(), torch.inf, difference).max())


def assert_within(got: Mapping[str, Tensor], budget: Budget) -> None:
    """Every result named in the budget is there and within it.

    Raises:
        AssertionError: names each result that is not, its error, what was allowed, and where the worst element is.
    """
    missing = sorted(set(budget.truth) - set(got))
    assert not missing, f"results missing: {', '.join(missing)}"
    complaints = []
    for name, truth in budget.truth.items():
        error, allowed = largest_error(got[name], truth), budget.allowed[name]
        if not error <= allowed:
            complaints.append(f"{name}: error {error:.3e}, allowed {allowed:.3e}{_where(got[name], truth)}")
    assert not complaints, "; ".join(complaints)


def assert_same_bits(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Two sets of results are equal bit for bit (NaN equals NaN of the same bits).

    Raises:
        AssertionError: names the first result that differs.
    """
    assert set(got) == set(expected), f"names differ: {sorted(set(got) ^ set(expected))}"
    for name, e in expected.items():
        g = got[name]
        assert g.shape == e.shape and g.dtype == e.dtype, f"{name}: {g.dtype} {g.shape} against {e.dtype} {e.shape}"
        same = torch.equal(_bits(g), _bits(e))
        assert same, f"{name}: not the same bits, largest difference {largest_error(g, e):.3e}"


def _bits(t: Tensor) -> Tensor:
    integer = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[t.element_size()]
    return t.detach().contiguous().view(integer)


def _where(got: Tensor, truth: Tensor) -> str:
    if got.shape != truth.shape:
        return f" (shape {tuple(got.shape)} against {tuple(truth.shape)})"
    difference = (got.detach().double() - truth.double()).abs()
    flat = int(torch.where(difference.isnan(), torch.inf, difference).argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), truth.shape))
    return f" at {place}: {got[place].item():.6g} against {truth[place].item():.6g}"
