"""Tools for testing kernels: derived error budgets, comparers, cases."""

from lstmrep.testing.compare import assert_same_bits, assert_within, largest_error
from lstmrep.testing.tolerance import Budget, budget, moved, rounding

__all__ = ["Budget", "assert_same_bits", "assert_within", "budget", "largest_error", "moved", "rounding"]
