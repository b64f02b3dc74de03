"""Batch split: the whole sequence in one launch; each program runs a few rows of one recurrence by itself.

No program waits for another.  Two forms: where H is at most one tile, W_hh is loaded once before the first step and
stays in registers and shared memory (``held``); for any H the tiles of units are walked in every step and W_hh is read
from the second-level cache (``walked``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from torch import Tensor

from .launch import Call, backward_arrays, forward_arrays, start
from .numeric import multiply_add, narrow
from .tile import (
    again,
    backward_tile,
    forward_tile,
    inside,
    known_size,
    last_cell,
    row_lengths,
    state_at,
    store_start_gradient,
)
from .walked import walked_backward, walked_forward, walked_start

if TYPE_CHECKING:
    from lstmrep.backends.tensors import Backward, Forward
    from lstmrep.planner.problem import TritonPass


@triton.jit
def held(w, gate, to, of, H):
    """W_hh of a gate, ``[UNITS, UNITS]``: the weights to the gate of units ``to`` of h' of units ``of``.

    One is ``[UNITS, 1]`` and the other ``[1, UNITS]``: as W_hh lies, or transposed.
    """
    return tl.load(w + (gate * H + to).to(tl.int64) * H + of, mask=(to < H) & (of < H), other=0.0)


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step"])
def batch_held_forward(
    h0, w, gates_x, bias, peephole, c0, lengths, h, h_n, c_n, gates, c_all,
    T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Programs: tiles of rows, recurrences; UNITS is at least H. h0: ``[N, B, H]`` S or none.

    w: ``[4H, H]`` S of recurrence 0, that of n ``n w_step`` further. The rest as ``forward_tile`` has it.
    """
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    units = tl.arange(0, UNITS)
    length = row_lengths(lengths, n, rows, T, B)
    w += n * w_step
    w_i = held(w, 0, units[None, :], units[:, None], H)
    w_f = held(w, 1, units[None, :], units[:, None], H)
    w_g = held(w, 2, units[None, :], units[:, None], H)
    w_o = held(w, 3, units[None, :], units[:, None], H)
    there = inside(rows, units, B, H)
    state = state_at(n, rows, units, B, H)
    last = tl.zeros([ROWS, UNITS], h.dtype.element_ty)
    if h0 is not None:
        last = tl.load(h0 + state, mask=there, other=0.0)
    c = last_cell(c_n, c0, n, 0, rows, units, B, H)
    zero = tl.zeros([ROWS, UNITS], tl.float32)
    for step in range(T):
        c, last = forward_tile(
            multiply_add(last, w_i, zero, PRECISION), multiply_add(last, w_f, zero, PRECISION),
            multiply_add(last, w_g, zero, PRECISION), multiply_add(last, w_o, zero, PRECISION),
            c, n, step, length, again(rows, step), again(units, step), T, B, again(H, step), reverse,
            gates_x, bias, peephole, h, h_n, c_n, gates, c_all, RELU,
        )  # fmt: skip


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step"])
def batch_held_backward(
    w, peephole, c0, lengths, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, d_h0,
    T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As forward and ``backward_tile`` have it; d_h0: ``[N, B, H]`` S, out; none: not wanted."""
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    units = tl.arange(0, UNITS)
    length = row_lengths(lengths, n, rows, T, B)
    w += n * w_step
    w_i = held(w, 0, units[:, None], units[None, :], H)
    w_f = held(w, 1, units[:, None], units[None, :], H)
    w_g = held(w, 2, units[:, None], units[None, :], H)
    w_o = held(w, 3, units[:, None], units[None, :], H)
    dh = tl.zeros([ROWS, UNITS], tl.float32)
    dc_next = tl.zeros([ROWS, UNITS], tl.float32)
    dtype: tl.constexpr = d_gates.dtype.element_ty
    for back in range(T):
        step = T - 1 - back
        d_i, d_f, d_g, d_o, dc_next = backward_tile(
            dh, dc_next, n, step, length, again(rows, step), again(units, step), T, B, again(H, step), reverse,
            peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, RELU,
        )  # fmt: skip
        dh = multiply_add(narrow(d_i, dtype), w_i, tl.zeros([ROWS, UNITS], tl.float32), PRECISION)
        dh = multiply_add(narrow(d_f, dtype), w_f, dh, PRECISION)
        dh = multiply_add(narrow(d_g, dtype), w_g, dh, PRECISION)
        dh = multiply_add(narrow(d_o, dtype), w_o, dh, PRECISION)
        tl.debug_barrier()  # the sums are read by other threads than wrote them
    if d_h0 is not None:
        store_start_gradient(d_h0, dh, grad_h_n, n, length, rows, units, B, H)


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step"])
def batch_walked_forward(
    exchange, w, gates_x, bias, peephole, c0, lengths, h, h_n, c_n, gates, c_all,
    T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Programs: tiles of rows, recurrences. The rest as ``walked_forward`` has it."""
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    length = row_lengths(lengths, n, rows, T, B)
    for step in range(T):
        for first in range(0, H, UNITS):
            walked_forward(
                exchange, w + n * w_step, gates_x, bias, peephole, c0, h, h_n, c_n, gates, c_all, 0.0,
                n, step, length, again(rows, step), first + tl.arange(0, UNITS), tl.num_programs(1), T, B,
                again(H, step), reverse, DEPTH, RELU, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()  # the next step reads what all threads wrote


@triton.jit(do_not_specialize=["T", "B", "H", "reverse", "w_step"])
def batch_walked_backward(
    exchange, w, peephole, c0, lengths, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, d_h0,
    T, B, H, reverse: tl.int64, w_step: tl.int64,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, ALIGNED: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """As forward and ``walked_backward`` have it; d_h0: ``[N, B, H]`` S, out; none: not wanted."""
    H = known_size(H, ALIGNED)
    w_step = known_size(w_step, ALIGNED)
    n = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    length = row_lengths(lengths, n, rows, T, B)
    for back in range(T):
        step = T - 1 - back
        for first in range(0, H, UNITS):
            walked_backward(
                exchange, w + n * w_step, peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums,
                0.0, n, step, length, again(rows, step), first + tl.arange(0, UNITS), tl.num_programs(1), T, B,
                again(H, step), reverse, DEPTH, RELU, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
    if d_h0 is not None:
        for first in range(0, H, UNITS):
            walked_start(
                exchange, w + n * w_step, grad_h_n, d_h0, 0.0,
                n, length, rows, first + tl.arange(0, UNITS), tl.num_programs(1), B, H, DEPTH, PRECISION,
            )  # fmt: skip


def _grid(call: Call, how: TritonPass) -> tuple[int, int]:
    return triton.cdiv(call.B, how.rows), call.N


def launch_held_forward(call: Call, how: TritonPass, a: Forward) -> None:
    """The forward pass, W_hh held; ``how.units`` covers H."""
    arguments = (call.h0, call.w, *forward_arrays(call, a), *call.sizes)
    start("triton_batch_held_forward", batch_held_forward, _grid(call, how), arguments, call, how)


def launch_held_backward(call: Call, how: TritonPass, a: Backward, dc: Tensor, sums: Tensor | None) -> None:
    """The backward pass, W_hh held. dc: ``[N, B, H]`` float32, out. sums: ``[N, B, 7, H]`` float32, out, or none."""
    arguments = (call.w, *backward_arrays(call, a, dc, sums), a.d_h0, *call.sizes)
    start("triton_batch_held_backward", batch_held_backward, _grid(call, how), arguments, call, how)


def launch_walked_forward(call: Call, how: TritonPass, a: Forward, exchange: Tensor) -> None:
    """The forward pass, W_hh walked. exchange: ``[2, N, B, H]`` S, h0 in its first half."""
    arguments = (exchange, call.w, *forward_arrays(call, a), *call.sizes)
    start("triton_batch_walked_forward", batch_walked_forward, _grid(call, how), arguments, call, how)


def launch_walked_backward(
    call: Call, how: TritonPass, a: Backward, exchange: Tensor, dc: Tensor, sums: Tensor | None
) -> None:
    """The backward pass, W_hh walked. exchange: ``[2, N, B, 4H]`` S; dc and sums as for the held form."""
    arguments = (exchange, call.w, *backward_arrays(call, a, dc, sums), a.d_h0, *call.sizes)
    start("triton_batch_walked_backward", batch_walked_backward, _grid(call, how), arguments, call, how)
