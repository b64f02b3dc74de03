"""Fake kernels: shapes and dtypes of what the ops return, for tracing (torch.compile, torch.export, meta tensors)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lstmrep.ops import validate
from lstmrep.ops.schema import BIAS, C0, COUNT, H0, PEEPHOLE, W_HH, W_IH, Inputs, X


def lstm(*arguments: Any) -> tuple[Tensor, ...]:
    """Empty outputs of ``lstmrep::lstm``."""
    i = Inputs(*arguments[:COUNT])
    steps, reverse, cell, _, save = arguments[COUNT:]
    s = validate.check(i, steps, reverse, cell)
    like = i.w_hh[0]
    frames = (s.N, s.T, s.B)
    return (
        like.new_empty((*frames, s.H)),
        like.new_empty((s.N, s.B, s.H)),
        like.new_empty((s.N, s.B, s.H), dtype=s.compute),
        like.new_empty((*frames, 4 * s.H) if save == "all" else (0,)),
        like.new_empty((0,) if save == "nothing" else (*frames, s.H), dtype=s.compute),
    )


def lstm_backward(*arguments: Any) -> list[Tensor]:
    """Empty gradients of ``lstmrep::lstm_backward``."""
    i = Inputs(*arguments[3 : 3 + COUNT])
    h, _, _, reverse, cell, _, needs = arguments[3 + COUNT :]
    s = validate.check(i, h.shape[1], reverse, cell)
    like = i.w_hh[0]
    out: list[Tensor] = []
    if needs[X]:
        assert i.x is not None
        out.append(like.new_empty(i.x.shape))
    if needs[W_IH]:
        out += [like.new_empty(w.shape) for w in i.w_ih]
    if needs[W_HH]:
        out.append(like.new_empty((4 * s.H, s.H) if s.N == 1 else (s.N, 4 * s.H, s.H)))
    if needs[BIAS] or needs[PEEPHOLE]:
        size = (7 if i.peephole else 4) * s.N * s.H
        out.append(like.new_empty(size, dtype=(i.bias or i.peephole)[0].dtype))
    for index, start in ((H0, i.h0), (C0, i.c0)):
        if needs[index]:
            assert start is not None
            out.append(start.new_empty(start.shape))
    return out
