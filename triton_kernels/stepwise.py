"""Stepwise: the cell of one step around a library product, for all rows, units and recurrences in one launch.

The product ``z`` ``[N, B, 4H]`` float32 comes from outside (``lstmrep.backends.triton``).  Any H and B; 2T launches a
pass with the products'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from .launch import Call, backward_arrays, forward_arrays, start
from .tile import (
    backward_tile,
    forward_tile,
    inside,
    known_size,
    last_cell,
    next_cell_gradient,
    row_lengths,
    store_gates,
)

if TYPE_CHECKING:
    from lstmrep.backends.tensors import Backward, Forward
    from lstmrep.planner.problem import TritonPass


@triton.jit(do_not_specialize=["step", "T", "B", "H", "reverse"])
def stepwise_forward(
    z, gates_x, bias, peephole, c0, lengths, h, h_n, c_n, gates, c_all, h_next,
    step, T, B, H, reverse: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """z: ``[N, B, 4H]`` or none for zeros; h_next: ``[N, B, H]`` S, out: what the next product reads.

    The rest as ``forward_tile`` has it; c0: ``[N, B, H]`` or none.
    """
    H = known_size(H, ALIGNED)
    n = tl.program_id(2)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    there = inside(rows, units, B, H)
    length = row_lengths(lengths, n, rows, T, B)
    state = (n.to(tl.int64) * B + rows)[:, None]
    if z is None:
        z_i = tl.zeros([ROWS, UNITS], tl.float32)
        z_f = z_i
        z_g = z_i
        z_o = z_i
    else:
        at = z + state * (4 * H) + units[None, :]
        z_i = tl.load(at, mask=there, other=0.0)
        z_f = tl.load(at + H, mask=there, other=0.0)
        z_g = tl.load(at + 2 * H, mask=there, other=0.0)
        z_o = tl.load(at + 3 * H, mask=there, other=0.0)
    c = last_cell(c_n, c0, n, step, rows, units, B, H)
    _, out = forward_tile(
        z_i, z_f, z_g, z_o, c, n, step, length, rows, units, T, B, H, reverse,
        gates_x, bias, peephole, h, h_n, c_n, gates, c_all, RELU,
    )  # fmt: skip
    tl.store(h_next + state * H + units[None, :], out, mask=there)


@triton.jit(do_not_specialize=["step", "T", "B", "H", "reverse"])
def stepwise_backward(
    dh, peephole, c0, lengths, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, d_next,
    step, T, B, H, reverse: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """dh: ``[N, B, H]`` float32 or none for zeros; d_next: ``[N, B, 4H]`` S, out: what the next product reads.

    The rest as ``backward_tile`` has it.
    """
    H = known_size(H, ALIGNED)
    n = tl.program_id(2)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    there = inside(rows, units, B, H)
    length = row_lengths(lengths, n, rows, T, B)
    state = (n.to(tl.int64) * B + rows)[:, None]
    through = tl.zeros([ROWS, UNITS], tl.float32)
    if dh is not None:
        through = tl.load(dh + state * H + units[None, :], mask=there, other=0.0)
    dc_next = next_cell_gradient(dc, n, step, length, rows, units, B, H)
    d_i, d_f, d_g, d_o, _ = backward_tile(
        through, dc_next, n, step, length, rows, units, T, B, H, reverse,
        peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, RELU,
    )  # fmt: skip
    store_gates(d_next, state, units, there, d_i, d_f, d_g, d_o, H)


def _grid(call: Call, how: TritonPass) -> tuple[int, int, int]:
    return triton.cdiv(call.H, how.units), triton.cdiv(call.B, how.rows), call.N


def launch_forward(call: Call, how: TritonPass, a: Forward, z: Tensor | None, h_next: Tensor, step: int) -> None:
    """One forward step. z: ``[N, B, 4H]`` float32 or none. h_next: ``[N, B, H]`` S, out."""
    arrays = (z, *forward_arrays(call, a), h_next)
    sizes = (step, call.T, call.B, call.H, call.reverse)
    start("triton_stepwise_forward", stepwise_forward, _grid(call, how), (*arrays, *sizes), call, how)


def launch_backward(
    call: Call, how: TritonPass, a: Backward, dh: Tensor | None, d_next: Tensor, dc: Tensor, sums: Tensor | None,
    step: int,
) -> None:  # fmt: skip
    """One backward step.

    dh: ``[N, B, H]`` float32 or none. d_next: ``[N, B, 4H]`` S, out. dc: ``[N, B, H]`` float32, in and out.
    sums: ``[N, B, 7, H]`` float32, in and out, or none.
    """
    arrays = (dh, *backward_arrays(call, a, dc, sums), d_next)
    sizes = (step, call.T, call.B, call.H, call.reverse)
    start("triton_stepwise_backward", stepwise_backward, _grid(call, how), (*arrays, *sizes), call, how)
