"""Error budgets derived from a run, never written by hand.

The truth is the reference backend in float64 on the very numbers that the kernel was given.  A result at a lower
precision may be wrong by at most twice what the reference itself is wrong by when it runs at that precision, plus the
rounding that storing the truth in the result's dtype costs, measured.  Both grow with T, H and the sizes of the
numbers, so the budget is formed anew for every case.

One run of the reference is one draw of its rounding errors, and on a small tensor a lucky one.  So it runs several
times, each time with its numbers moved by at most one rounding (``moved``) and, where the case allows, its sums in
another order; the largest error counts.  In bfloat16 and float16 a rounding of the numbers is as large as those inside
the run, so there each draw is held against a truth of its own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from lstmrep.testing.compare import largest_error

Tensors = Mapping[str, Tensor]
FACTOR = 2.0
ORDERS = 4
ELEMENTS = 32


@dataclass(frozen=True)
class Budget:
    """What a result is held against: the truth in float64 and the largest error allowed, by name."""

    truth: dict[str, Tensor]
    allowed: dict[str, float]


def rounding(truth: Tensor, dtype: torch.dtype) -> float:
    """Largest error of storing ``truth`` (float64) in ``dtype``, measured; at least that of its largest value."""
    if not truth.numel():
        return 0.0
    largest = float(truth.abs().max())
    stored = largest_error(truth.to(dtype).double(), truth)
    return max(stored, largest * torch.finfo(dtype).eps / 2)


# The 16-bit dtype whose budget is being formed, for both the run at that precision and its truth.
_narrow: ContextVar[torch.dtype | None] = ContextVar("narrow", default=None)


def moved(t: Tensor, dtype: torch.dtype, order: int) -> Tensor:
    """``t`` in ``dtype``; for order > 0 each element is moved by at most one rounding, at random.

    That is a rounding of float32 where ``dtype`` is; while a budget in bfloat16 or float16 is formed, one of that
    dtype, whatever ``dtype`` is, so that the truth is given the same numbers. Other numbers stay as they are.
    """
    narrow = _narrow.get()
    if order == 0 or (dtype != torch.float32 and narrow is None):
        return t.to(dtype)
    held = t.to(narrow or dtype)
    g = torch.Generator().manual_seed(order)
    share = torch.rand(t.shape, generator=g, device="cpu").to(t.device) * 2 - 1
    shift = share * torch.finfo(held.dtype).eps
    return (held + held * shift if narrow is None else (held.float() * (1 + shift)).to(narrow)).to(dtype)


def budget(run: Callable[[torch.dtype, int], Tensors], dtype: torch.dtype) -> Budget:
    """Form the budget of a case.

    Args:
        run: ``run(dtype, order)`` runs the reference backend on the case's numbers, held in the given dtype, and
            returns its results by name. The numbers must be representable in both dtypes. Order 0 is the case as it
            is; others are the same case with its numbers ``moved`` and, where possible, its sums in another order.
        dtype: precision of the kernel under test.

    Returns:
        The truth, and for each name FACTOR times the reference's own error plus the measured rounding.
    """
    with one_thread():
        return _budget(run, dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """For the reference's many small operations: a second thread only waits, long where the other core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _numbers_of(dtype: torch.dtype) -> Iterator[None]:
    token = _narrow.set(dtype if dtype.itemsize == 2 else None)
    try:
        yield
    finally:
        _narrow.reset(token)


def _draws(truth: dict[str, Tensor]) -> int:
    """Runs of the reference: enough that even the smallest result shows some ELEMENTS errors."""
    smallest = min((t.numel() for t in truth.values() if t.numel()), default=ELEMENTS)
    return max(ORDERS, -(-ELEMENTS // smallest))


def _budget(run: Callable[[torch.dtype, int], Tensors], dtype: torch.dtype) -> Budget:
    truth = {name: t.detach().double() for name, t in run(torch.float64, 0).items()}
    exact = dtype == torch.float64
    # In float64 the truth is no better than the kernel and has its own share of the error. Errors shrink with eps, so
    # float32's tell float64's.
    factor = (FACTOR + 1) * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps if exact else FACTOR
    draws, truths = [], []
    for order in range(_draws(truth)):
        with _numbers_of(dtype):
            draws.append(run(torch.float32 if exact else dtype, order))
            truths.append(run(torch.float64, order) if order and _narrow.get() else truth)
    allowed = {}
    for name, t in truth.items():
        own = max(largest_error(draw[name], true[name]) for draw, true in zip(draws, truths, strict=True))
        allowed[name] = factor * own + rounding(t, torch.float64 if exact else draws[0][name].dtype)
    return Budget(truth, allowed)
