"""Schemas of the two torch ops, ``lstmrep::lstm`` and ``lstmrep::lstm_backward``, and their common inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Counts = tuple[int, int, int, int]  # tensors in w_ih, w_hh, bias and peephole


class Inputs(NamedTuple):
    """The tensors of one call, in the schemas' order. S is the I/O dtype, C the compute dtype."""

    x: Tensor | None  # [T, B, I] (shared) or [N, T, B, I] S; with an empty w_ih the input share [N, T, B, 4H] S
    w_ih: list[Tensor]  # N of [4H, I] S, or empty
    w_hh: list[Tensor]  # N of [4H, H] S
    bias: list[Tensor]  # S or C; one after the other [N, 4H], or 2N of [4H], added in pairs; empty: none
    peephole: list[Tensor]  # in the biases' dtype; one after the other [N, 3, H]; empty: none
    h0: Tensor | None  # [N, B, H], or [1, B, H] shared by all, S
    c0: Tensor | None  # [N, B, H], or [1, B, H] shared by all, C
    lengths: Tensor | None  # [N, B] int32

    def flat(self) -> tuple[Tensor | None, ...]:
        """One flat tuple, for autograd functions: the single tensors, then the four lists."""
        lists = (*self.w_ih, *self.w_hh, *self.bias, *self.peephole)
        return (self.x, self.h0, self.c0, self.lengths, *lists)

    @property
    def counts(self) -> Counts:
        """How many tensors each of the four lists has, for ``from_flat``."""
        return len(self.w_ih), len(self.w_hh), len(self.bias), len(self.peephole)

    @classmethod
    def from_flat(cls, flat: Sequence[Any], counts: Counts) -> Inputs:
        """The inverse of ``flat``."""
        x, h0, c0, lengths = flat[:SINGLE]
        w_ih, w_hh, bias, peephole = split(flat[SINGLE:], counts)
        return cls(x, w_ih, w_hh, bias, peephole, h0, c0, lengths)


class Passed(NamedTuple):
    """What a backward pass is given beside the inputs: gradients (none: zero), then what forward returned."""

    grad_h: Tensor | None  # [N, T, B, H] S
    grad_h_n: Tensor | None  # [N, B, H] S
    grad_c_n: Tensor | None  # [N, B, H] C
    h: Tensor  # [N, T, B, H] S
    gates: Tensor | None  # [N, T, B, 4H] S; none: they are formed again
    c: Tensor  # [N, T, B, H] C

    @classmethod
    def of(
        cls,
        grad_h: Tensor | None,
        grad_h_n: Tensor | None,
        grad_c_n: Tensor | None,
        h: Tensor,
        gates: Tensor | None,
        c: Tensor,
    ) -> Passed:
        """The same where h and its gradient may be those of a layer, ``[T, B, H]``."""
        if h.dim() == 3:
            h, grad_h = h.unsqueeze(0), None if grad_h is None else grad_h.unsqueeze(0)
        return cls(grad_h, grad_h_n, grad_c_n, h, gates, c)


def split(flat: Sequence[Any], counts: Counts) -> list[list[Any]]:
    """The four lists whose tensors stand one after the other in ``flat``."""
    lists, at = [], 0
    for count in counts:
        lists.append(list(flat[at : at + count]))
        at += count
    return lists


COUNT = len(Inputs._fields)
SINGLE = COUNT - 4  # places of ``flat`` before the lists
# Places of the differentiable inputs in ``needs``.
X, W_IH, W_HH, BIAS, PEEPHOLE, H0, C0 = range(7)

_INPUTS = (
    "Tensor? x, Tensor[] w_ih, Tensor[] w_hh, Tensor[] bias, Tensor[] peephole, Tensor? h0, Tensor? c0, Tensor? lengths"
)
# Kept alive for the life of the process: dropping it would unregister the ops.
LIBRARY = torch.library.Library("lstmrep", "DEF")

LIBRARY.define(
    f"lstm({_INPUTS}, SymInt steps, bool[] reverse, str cell, str backend, str save)"
    " -> (Tensor h, Tensor h_n, Tensor c_n, Tensor gates, Tensor c)"
)
# Returns, each where ``needs`` asks for it: x; N of w_ih; w_hh [N, 4H, H], or [4H, H] for N = 1; bias and peephole in
# one [N*4H + N*3H], where either is asked for, or [N*4H] where there are no peepholes; h0; c0. Of biases in pairs the
# gradient is one for both. Views are left to the caller, who has none to form in the commonest case.
LIBRARY.define(
    f"lstm_backward(Tensor? grad_h, Tensor? grad_h_n, Tensor? grad_c_n, {_INPUTS},"
    " Tensor h, Tensor? gates, Tensor c, bool[] reverse, str cell, str backend, bool[] needs) -> Tensor[]"
)
