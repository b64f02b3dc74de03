"""Fused step: product with W_hh, cell and stores of one step in one launch. Any H and B; T launches a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from .launch import Call, backward_arrays, forward_arrays, start
from .tile import known_size, row_lengths
from .walked import walked_backward, walked_forward, walked_start

if TYPE_CHECKING:
    from lstmrep.backends.tensors import Backward, Forward
    from lstmrep.planner.problem import TritonPass


@triton.jit(do_not_specialize=["step", "T", "B", "H", "reverse", "w_step"])
def fused_step_forward(
    exchange, w, gates_x, bias, peephole, c0, lengths, h, h_n, c_n, gates, c_all,
    step, T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Programs: tiles of units, of rows, recurrences. w: ``[4H, H]`` S of recurrence 0, that of n ``n w_step`` further.

    The rest as ``walked_forward`` has it.
    """
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(2)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    length = row_lengths(lengths, n, rows, T, B)
    walked_forward(
        exchange, w + n * w_step, gates_x, bias, peephole, c0, h, h_n, c_n, gates, c_all, 0.0,
        n, step, length, rows, units, tl.num_programs(2), T, B, H, reverse, DEPTH, RELU, PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=["step", "T", "B", "H", "reverse", "w_step"])
def fused_step_backward(
    exchange, w, peephole, c0, lengths, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, d_h0,
    step, T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """As forward and ``walked_backward`` have it. After step 0 a launch of step -1 stores d_h0, ``[N, B, H]`` S."""
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(2)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    length = row_lengths(lengths, n, rows, T, B)
    if step >= 0:
        walked_backward(
            exchange, w + n * w_step, peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, 0.0,
            n, step, length, rows, units, tl.num_programs(2), T, B, H, reverse, DEPTH, RELU, PRECISION,
        )  # fmt: skip
    elif d_h0 is not None:
        walked_start(
            exchange, w + n * w_step, grad_h_n, d_h0, 0.0,
            n, length, rows, units, tl.num_programs(2), B, H, DEPTH, PRECISION,
        )  # fmt: skip


def _grid(call: Call, how: TritonPass) -> tuple[int, int, int]:
    return triton.cdiv(call.H, how.units), triton.cdiv(call.B, how.rows), call.N


def launch_forward(call: Call, how: TritonPass, a: Forward, exchange: Tensor, step: int) -> None:
    """One forward step. exchange: ``[2, N, B, H]`` S, h0 in its first half before step 0."""
    arguments = (exchange, call.w, *forward_arrays(call, a), step, *call.sizes)
    start("triton_fused_step_forward", fused_step_forward, _grid(call, how), arguments, call, how)


def launch_backward(
    call: Call, how: TritonPass, a: Backward, exchange: Tensor, dc: Tensor, sums: Tensor | None, step: int
) -> None:
    """One backward step; step -1 is the product for d_h0.

    exchange: ``[2, N, B, 4H]`` S. dc: ``[N, B, H]`` float32, in and out. sums: ``[N, B, 7, H]`` float32 or none.
    """
    arguments = (exchange, call.w, *backward_arrays(call, a, dc, sums), a.d_h0, step, *call.sizes)
    start("triton_fused_step_backward", fused_step_backward, _grid(call, how), arguments, call, how)
