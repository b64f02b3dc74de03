"""Schemas of the two torch ops, ``lstmrep::lstm`` and ``lstmrep::lstm_backward``, and their common inputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """The tensors of one call, in the schemas' order. S is the I/O dtype, C the compute dtype."""

    x: Tensor | None  # [T, B, I] (shared) or [N, T, B, I] S; with an empty w_ih the input share [N, T, B, 4H] S
    w_ih: list[Tensor]  # N of [4H, I] S, or empty
    w_hh: list[Tensor]  # N of [4H, H] S
    bias: Tensor | None  # [N, 4H] C
    peephole: Tensor | None  # [N, 3, H] C
    h0: Tensor | None  # [N, B, H] S
    c0: Tensor | None  # [N, B, H] C
    lengths: Tensor | None  # [N, B] int32

    def flat(self) -> tuple[Tensor | None, ...]:
        """One flat tuple, for autograd functions: the single tensors, then w_ih, then w_hh."""
        return (self.x, self.bias, self.peephole, self.h0, self.c0, self.lengths, *self.w_ih, *self.w_hh)

    @classmethod
    def from_flat(cls, flat: tuple[Any, ...], n_ih: int) -> Inputs:
        """The inverse of ``flat`` with ``n_ih`` matrices in w_ih."""
        x, bias, peephole, h0, c0, lengths = flat[:SINGLE]
        w_ih, w_hh = list(flat[SINGLE : SINGLE + n_ih]), list(flat[SINGLE + n_ih :])
        return cls(x, w_ih, w_hh, bias, peephole, h0, c0, lengths)


COUNT = len(Inputs._fields)
SINGLE = COUNT - 2  # places of ``flat`` before the weights
# Places of the differentiable inputs in ``needs`` and in what lstm_backward returns (of w_ih and w_hh, N tensors each).
X, W_IH, W_HH, BIAS, PEEPHOLE, H0, C0 = range(7)

_INPUTS = (
    "Tensor? x, Tensor[] w_ih, Tensor[] w_hh, Tensor? bias, Tensor? peephole, Tensor? h0, Tensor? c0, Tensor? lengths"
)
# Kept alive for the life of the process: dropping it would unregister the ops.
LIBRARY = torch.library.Library("lstmrep", "DEF")

LIBRARY.define(
    f"lstm({_INPUTS}, SymInt steps, bool[] reverse, str cell, str backend, str save)"
    " -> (Tensor h, Tensor h_n, Tensor c_n, Tensor gates, Tensor c)"
)
LIBRARY.define(
    f"lstm_backward(Tensor? grad_h, Tensor? grad_h_n, Tensor? grad_c_n, {_INPUTS},"
    " Tensor h, Tensor? gates, Tensor c, bool[] reverse, str cell, str backend, bool[] needs) -> Tensor[]"
)
