"""Fake kernels: shapes and dtypes of what the ops return, for tracing (torch.compile, torch.export, meta tensors)."""

from __future__ import annotations

from torch import Tensor

from lstmrep.ops import validate
from lstmrep.ops.schema import BIAS, C0, H0, PEEPHOLE, W_HH, W_IH, X


def lstm(
    x: Tensor | None,
    w_ih: list[Tensor],
    w_hh: list[Tensor],
    bias: Tensor | None,
    peephole: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    steps: int,
    reverse: list[bool],
    cell: str,
    backend: str,
    save: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Empty outputs of ``lstmrep::lstm``."""
    s = validate.check(x, w_ih, w_hh, bias, peephole, h0, c0, lengths, steps, reverse, cell)
    like = w_hh[0]
    frames = (s.N, s.T, s.B)
    return (
        like.new_empty((*frames, s.H)),
        like.new_empty((s.N, s.B, s.H)),
        like.new_empty((s.N, s.B, s.H), dtype=s.compute),
        like.new_empty((*frames, 4 * s.H) if save == "all" else (0,)),
        like.new_empty((0,) if save == "nothing" else (*frames, s.H), dtype=s.compute),
    )


def lstm_backward(
    grad_h: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    x: Tensor | None,
    w_ih: list[Tensor],
    w_hh: list[Tensor],
    bias: Tensor | None,
    peephole: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    h: Tensor,
    gates: Tensor | None,
    c: Tensor,
    reverse: list[bool],
    cell: str,
    backend: str,
    needs: list[bool],
) -> list[Tensor]:
    """Empty gradients of ``lstmrep::lstm_backward``."""
    s = validate.check(x, w_ih, w_hh, bias, peephole, h0, c0, lengths, h.shape[1], reverse, cell)
    like = w_hh[0]
    out: list[Tensor] = []
    if needs[X]:
        assert x is not None
        out.append(like.new_empty(x.shape))
    if needs[W_IH]:
        out += [like.new_empty(w.shape) for w in w_ih]
    if needs[W_HH]:
        out += [like.new_empty(w.shape) for w in w_hh]
    shapes = {BIAS: (s.N, 4 * s.H), PEEPHOLE: (s.N, 3, s.H), H0: (s.N, s.B, s.H), C0: (s.N, s.B, s.H)}
    for index, shape in shapes.items():
        if needs[index]:
            out.append(like.new_empty(shape, dtype=s.dtype if index == H0 else s.compute))
    return out
