"""No time without a right result: every contender's outputs and gradients are held against float64 before the clock."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from lstm_bench.workload import Results, Workload
from lstmrep.testing.compare import largest_error
from lstmrep.testing.tolerance import one_thread, rounding

# Of the error that the reference makes in the row's dtype, and of a rounding. The gate is for wrong results: other
# libraries also round their cell state, which this one does not, and the tests hold kernels to two.
GATE = 8.0
# In float32 others are no less right for being less exact: cuDNN errs by up to 25 times the reference's error.
PEERS = 4.0


class WrongError(AssertionError):
    """A result outside its bound; the message names it, its error and what was allowed."""


class Gate:
    """The truth of a workload, and what each of its results may be wrong by.

    The truth is the reference backend on the very numbers in float64; the yardstick is the same in the row's dtype.

    Args:
        work: a problem with its numbers.
    """

    def __init__(self, work: Workload) -> None:
        self.work = work
        with _quiet(work):
            self.truth = self._reference(torch.float64)
            near = self._reference(work.dtype)
        # Gradients of parameters are sums over all rows and steps, which some add one after the other in float32.
        terms = (work.problem.T * work.problem.B) ** 0.5 * torch.finfo(torch.float32).eps
        self.allowed = {
            key: GATE * (largest_error(near[key], true) + rounding(true, near[key].dtype))
            + (terms * float(true.abs().max()) if key.startswith("d_") else 0.0)
            for key, true in self.truth.items()
        }

    def _reference(self, dtype: torch.dtype) -> Results:
        wide = self.work.widened(dtype)
        return wide.results(self.work.module("reference", dtype), training=True)

    def check(self, got: Results, training: bool, own: bool = True) -> None:
        """Hold results against the truth.

        Args:
            got: by name.
            training: gradients are expected too.
            own: of this library; others may be wrong by PEERS times as much in float32.

        Raises:
            WrongError: one is missing, or not within its bound.
        """
        for key, true in self.truth.items():
            if key.startswith("d_") and not training:
                continue
            if key not in got:
                raise WrongError(f"{key} is missing")
            error, allowed = largest_error(got[key], true), self.allowed[key]
            if not own and self.work.dtype == torch.float32:
                allowed *= PEERS
            if not error <= allowed:
                raise WrongError(f"{key}: error {error:.1e} against float64, allowed {allowed:.1e}")


def _quiet(work: Workload) -> AbstractContextManager[None]:
    """One thread where the reference's operations are too small for two."""
    return one_thread() if work.problem.B * work.problem.H < 1 << 14 else nullcontext()
