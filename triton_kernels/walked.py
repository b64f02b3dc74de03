"""A step of a tile that multiplies with W_hh as it lies in memory, for kernels whose state goes through memory.

The exchanged state, h in the forward pass and the gate gradients in the backward pass, is ``[2, N, B, width]`` S: a
step reads one half and writes the other, since a program reads the state of all units while others write theirs.  Step
t of the forward pass reads half t % 2; step t of the backward pass reads half (t + 1) % 2, where step t + 1 left it.
"""

import triton
import triton.language as tl

from .product import gate_sums, state_gradient
from .tile import (
    backward_tile,
    forward_tile,
    inside,
    last_cell,
    next_cell_gradient,
    store_gates,
    store_start_gradient,
)


@triton.jit
def half(exchange, which, n, N, B, width):
    """Recurrence n's ``[B, width]`` in a half of the exchanged state."""
    return exchange + ((which % 2) * N + n).to(tl.int64) * B * width


@triton.jit
def walked_forward(
    exchange, w, gates_x, bias, peephole, c0, h, h_n, c_n, gates, c_all, poison,
    n, step, length, rows, units, N, T, B, H, reverse,
    DEPTH: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A forward step. exchange: ``[2, N, B, H]``. w: ``[4H, H]`` S of recurrence n. c0: ``[N, B, H]`` or none.

    poison: 0, or NaN where what was exchanged cannot be relied on. The rest as ``forward_tile`` has it.
    """
    z_i, z_f, z_g, z_o = gate_sums(half(exchange, step, n, N, B, H), w, rows, units, B, H, DEPTH, PRECISION)
    c = last_cell(c_n, c0, n, step, rows, units, B, H)
    _, out = forward_tile(
        z_i + poison, z_f + poison, z_g + poison, z_o + poison, c, n, step, length, rows, units, T, B, H, reverse,
        gates_x, bias, peephole, h, h_n, c_n, gates, c_all, RELU,
    )  # fmt: skip
    at = half(exchange, step + 1, n, N, B, H) + rows.to(tl.int64)[:, None] * H + units[None, :]
    tl.store(at, out, mask=inside(rows, units, B, H))


@triton.jit
def walked_backward(
    exchange, w, peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, poison,
    n, step, length, rows, units, N, T, B, H, reverse,
    DEPTH: tl.constexpr, RELU: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A backward step. exchange: ``[2, N, B, 4H]``. The rest as ``walked_forward`` and ``backward_tile`` have it."""
    dh = tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    if step < T - 1:
        dh = state_gradient(half(exchange, step + 1, n, N, B, 4 * H), w, rows, units, B, H, DEPTH, PRECISION)
    dc_next = next_cell_gradient(dc, n, step, length, rows, units, B, H)
    d_i, d_f, d_g, d_o, _ = backward_tile(
        dh + poison, dc_next, n, step, length, rows, units, T, B, H, reverse,
        peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, RELU,
    )  # fmt: skip
    to = half(exchange, step, n, N, B, 4 * H)
    there = inside(rows, units, B, H)
    store_gates(to, rows.to(tl.int64)[:, None], units, there, d_i, d_f, d_g, d_o, H)


@triton.jit
def walked_start(
    exchange, w, grad_h_n, d_h0, poison, n, length, rows, units, N, B, H, DEPTH: tl.constexpr, PRECISION: tl.constexpr
):
    """d_h0 ``[N, B, H]`` S of a tile, after step 0 or where there is no step."""
    dh = state_gradient(half(exchange, 0, n, N, B, 4 * H), w, rows, units, B, H, DEPTH, PRECISION)
    store_start_gradient(d_h0, dh + poison, grad_h_n, n, length, rows, units, B, H)
