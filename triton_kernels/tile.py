"""One step of one tile, rows of the batch by hidden units: loads, the cell, stores. The same for every kernel here.

Step t of row (n, b) is active when t < its length.  Its frame is t, or length-1-t in a reversed recurrence; a step that
is not active owns frame t, where every output is zero.  S is the I/O dtype, the rest is float32.
"""

import triton
import triton.language as tl

from .cell import cell_backward, cell_forward
from .numeric import narrow


@triton.jit
def known_size(H, ALIGNED: tl.constexpr):
    """H, told to the compiler to be a multiple of 16 where ALIGNED says so: then rows are read 16 bytes at a time."""
    if ALIGNED:
        H = (H // 16) * 16
    return H


@triton.jit
def again(value, step):
    """``value``, which the compiler must take for another one in each step (fewer than 2^30).

    Else it computes the address of every element of every array before the first step and keeps them all in registers,
    from where they spill.
    """
    return value + (step >> 30) * 16


@triton.jit
def each_row(value, rows):
    """A scalar as ``[ROWS]``: Triton's interpreter cannot combine a comparison of scalars with a tile's mask."""
    return tl.zeros_like(rows) + value


@triton.jit
def inside(rows, units, B, H):
    """Which elements of a tile there are, ``[ROWS, UNITS]``."""
    return (rows[:, None] < B) & (units[None, :] < H)


@triton.jit
def state_at(n, rows, units, B, H):
    """Places of a tile's elements in ``[N, B, H]``, int64."""
    return (n.to(tl.int64) * B + rows)[:, None] * H + units[None, :]


@triton.jit
def row_lengths(lengths, n, rows, T, B):
    """Steps of each row, ``[ROWS]`` int32; lengths ``[N, B]`` int32 or none."""
    # With an else wherever something may be none: Triton 3.6 also compiles what follows a return.
    if lengths is None:
        return each_row(T, rows)
    else:
        return tl.load(lengths + n * B + rows, mask=rows < B, other=0)


@triton.jit
def frame_rows(n, step, length, rows, T, B, reverse):
    """Place of a step's frame in ``[N, T, B]``, ``[ROWS]`` int64; bit n of ``reverse``: recurrence n is reversed."""
    turned = ((reverse >> n) & 1) != 0
    frame = tl.where(turned & (step < length), length - 1 - step, step)
    return (n.to(tl.int64) * T + frame) * B + rows


@triton.jit
def peepholes(vectors, n, units, H):
    """Those of a tile's units, three of ``[1, UNITS]``; vectors ``[N, 3, H]`` float32 or none: three zeros."""
    if vectors is None:
        return 0.0, 0.0, 0.0
    else:
        at = vectors + n * 3 * H + units[None, :]
        there = units[None, :] < H
        return (
            tl.load(at, mask=there, other=0.0),
            tl.load(at + H, mask=there, other=0.0),
            tl.load(at + 2 * H, mask=there, other=0.0),
        )


@triton.jit
def with_input(z, gate, gates_x, bias, n, frame, active, units, H):
    """``z`` of a gate plus the input's share and the bias, where there are any."""
    if gates_x is not None:
        at = gates_x + frame[:, None] * (4 * H) + gate * H + units[None, :]
        z += tl.load(at, mask=active, other=0.0).to(tl.float32)
    if bias is not None:
        z += tl.load(bias + (n * 4 + gate) * H + units, mask=units < H, other=0.0)[None, :]
    return z


@triton.jit
def store_gates(gates, row, units, there, i, f, g, o, H):
    """Four tiles into rows of 4H elements, rounded to their dtype. row: ``[ROWS, 1]`` int64."""
    at = gates + row * (4 * H) + units[None, :]
    tl.store(at, narrow(i, gates.dtype.element_ty), mask=there)
    tl.store(at + H, narrow(f, gates.dtype.element_ty), mask=there)
    tl.store(at + 2 * H, narrow(g, gates.dtype.element_ty), mask=there)
    tl.store(at + 3 * H, narrow(o, gates.dtype.element_ty), mask=there)


@triton.jit
def last_cell(c_n, c0, n, step, rows, units, B, H):
    """c before a step of a kernel that keeps it in ``c_n`` ``[N, B, H]``: at step 0 from ``c0``, or zero for none."""
    state = state_at(n, rows, units, B, H)
    there = inside(rows, units, B, H)
    begun = (each_row(step, rows) > 0)[:, None]
    c = tl.load(c_n + state, mask=there & begun, other=0.0)
    if c0 is not None:
        c += tl.load(c0 + state, mask=there & ~begun, other=0.0)
    return c


@triton.jit
def forward_tile(
    z_i, z_f, z_g, z_o, c_prev, n, step, length, rows, units, T, B, H, reverse,
    gates_x, bias, peephole, h, h_n, c_n, gates, c_all, RELU: tl.constexpr,
):  # fmt: skip
    """A forward step of a tile.

    Args:
        z_i, z_f, z_g, z_o: ``[ROWS, UNITS]``, products with h' alone.
        c_prev: ``[ROWS, UNITS]``.
        n, step: of which recurrence and step. length, rows: ``[ROWS]``. units: ``[UNITS]``.
        reverse: bits of reversed recurrences.
        gates_x: ``[N, T, B, 4H]`` S or none; may be ``gates``.
        bias: ``[N, 4H]`` or none. peephole: ``[N, 3, H]`` or none.
        h: ``[N, T, B, H]`` S, out. h_n: ``[N, B, H]`` S, out: after the last active step.
        c_n: ``[N, B, H]``, out: c after the step.
        gates: ``[N, T, B, 4H]`` S, out; none: not wanted. c_all: ``[N, T, B, H]``, out; none: not wanted.
        RELU: the relu cell.

    Returns:
        c and h after the step, h rounded to S and zero where the step is not active.
    """
    there = inside(rows, units, B, H)
    active = there & (step < length)[:, None]
    frame = frame_rows(n, step, length, rows, T, B, reverse)
    z_i = with_input(z_i, 0, gates_x, bias, n, frame, active, units, H)
    z_f = with_input(z_f, 1, gates_x, bias, n, frame, active, units, H)
    z_g = with_input(z_g, 2, gates_x, bias, n, frame, active, units, H)
    z_o = with_input(z_o, 3, gates_x, bias, n, frame, active, units, H)
    p_i, p_f, p_o = peepholes(peephole, n, units, H)
    i, f, g, o, c, out = cell_forward(z_i, z_f, z_g, z_o, c_prev, p_i, p_f, p_o, peephole is not None, RELU)
    out = narrow(tl.where(active, out, 0.0), h.dtype.element_ty)
    kept = tl.where(active, c, c_prev)
    at = frame[:, None] * H + units[None, :]
    state = state_at(n, rows, units, B, H)
    tl.store(h + at, out, mask=there)
    tl.store(h_n + state, out, mask=there & (step == length - 1)[:, None])
    tl.store(c_n + state, kept, mask=there)
    if c_all is not None:
        tl.store(c_all + at, tl.where(active, c, 0.0), mask=there)
    if gates is not None:
        i = tl.where(active, i, 0.0)
        f = tl.where(active, f, 0.0)
        g = tl.where(active, g, 0.0)
        o = tl.where(active, o, 0.0)
        store_gates(gates, frame[:, None], units, there, i, f, g, o, H)
    return kept, out


@triton.jit
def next_cell_gradient(dc, n, step, length, rows, units, B, H):
    """dc after a step of a kernel that keeps it in ``dc`` ``[N, B, H]``; not read where the step is the last one."""
    state = state_at(n, rows, units, B, H)
    there = inside(rows, units, B, H) & (step < length - 1)[:, None]
    return tl.load(dc + state, mask=there, other=0.0)


@triton.jit
def last_gradient(gradient, n, rows, units, where, B, H):
    """That of a last state, ``[N, B, H]`` or none, where ``where`` holds and zero elsewhere."""
    if gradient is None:
        return tl.zeros([rows.shape[0], units.shape[0]], tl.float32)
    else:
        state = state_at(n, rows, units, B, H)
        return tl.load(gradient + state, mask=where, other=0.0).to(tl.float32)


@triton.jit
def add_sum(sums, part, value, at, there, added, H):
    """Put ``value`` into one of the seven sums of each element, ``[N, B, 7, H]``, and add what ``added`` masks."""
    place = sums + at + part * H
    tl.store(place, value + tl.load(place, mask=added, other=0.0), mask=there)


@triton.jit
def backward_tile(
    dh, dc_next, n, step, length, rows, units, T, B, H, reverse,
    peephole, c0, gates, c_all, grad_h, grad_h_n, grad_c_n, d_gates, dc, sums, RELU: tl.constexpr,
):  # fmt: skip
    """A backward step of a tile.

    Args:
        dh: ``[ROWS, UNITS]``, what comes through W_hh from the step after.
        dc_next: ``[ROWS, UNITS]``, the gradient of c from the step after.
        c0: ``[N, B, H]`` or none.
        gates: ``[N, T, B, 4H]`` S, saved; may be ``d_gates``. c_all: ``[N, T, B, H]``, saved.
        grad_h: ``[N, T, B, H]`` S or none. grad_h_n: ``[N, B, H]`` S or none. grad_c_n: ``[N, B, H]`` or none.
        d_gates: ``[N, T, B, 4H]`` S, out. dc: ``[N, B, H]``, out: gradient of c before the step.
        sums: ``[N, B, 7, H]``, in and out: the row's part of the bias and peephole gradients; none: not wanted.
        The rest as ``forward_tile`` has it.

    Returns:
        The four gate gradients, zero where the step is not active, and the gradient of c before the step.
    """
    there = inside(rows, units, B, H)
    active = there & (step < length)[:, None]
    last = there & (step == length - 1)[:, None]
    frame = frame_rows(n, step, length, rows, T, B, reverse)
    begun = (each_row(step, rows) > 0)[:, None]
    before = frame_rows(n, step - 1, length, rows, T, B, reverse)
    at = frame[:, None] * H + units[None, :]
    state = state_at(n, rows, units, B, H)

    from_gates = gates + frame[:, None] * (4 * H) + units[None, :]
    i = tl.load(from_gates, mask=active, other=0.0).to(tl.float32)
    f = tl.load(from_gates + H, mask=active, other=0.0).to(tl.float32)
    g = tl.load(from_gates + 2 * H, mask=active, other=0.0).to(tl.float32)
    o = tl.load(from_gates + 3 * H, mask=active, other=0.0).to(tl.float32)
    c = tl.load(c_all + at, mask=active, other=0.0)
    c_prev = tl.load(c_all + before[:, None] * H + units[None, :], mask=active & begun, other=0.0)
    if c0 is not None:
        c_prev += tl.load(c0 + state, mask=active & ~begun, other=0.0)
    # What is held for a row whose sequence has ended takes the place of what came through its empty steps.
    dh = tl.where(last, last_gradient(grad_h_n, n, rows, units, last, B, H), dh)
    # The same for c; a row without any step hands it through to c0.
    ended = last | (there & ~begun & (length <= 0)[:, None])
    dc_next = tl.where(ended, last_gradient(grad_c_n, n, rows, units, ended, B, H), dc_next)
    if grad_h is not None:
        dh += tl.load(grad_h + at, mask=active, other=0.0).to(tl.float32)

    p_i, p_f, p_o = peepholes(peephole, n, units, H)
    d_i, d_f, d_g, d_o, dc_prev = cell_backward(
        i, f, g, o, c_prev, c, p_i, p_f, p_o, dh, dc_next, peephole is not None, RELU
    )
    d_i = tl.where(active, d_i, 0.0)
    d_f = tl.where(active, d_f, 0.0)
    d_g = tl.where(active, d_g, 0.0)
    d_o = tl.where(active, d_o, 0.0)
    dc_prev = tl.where(active, dc_prev, dc_next)
    if sums is not None:
        added = there & (each_row(step, rows) < T - 1)[:, None]
        to = (n.to(tl.int64) * B + rows)[:, None] * (7 * H) + units[None, :]
        add_sum(sums, 0, d_i, to, there, added, H)
        add_sum(sums, 1, d_f, to, there, added, H)
        add_sum(sums, 2, d_g, to, there, added, H)
        add_sum(sums, 3, d_o, to, there, added, H)
        if peephole is not None:
            add_sum(sums, 4, c_prev * d_i, to, there, added, H)
            add_sum(sums, 5, c_prev * d_f, to, there, added, H)
            add_sum(sums, 6, c * d_o, to, there, added, H)
    tl.store(dc + state, dc_prev, mask=there)
    store_gates(d_gates, frame[:, None], units, there, d_i, d_f, d_g, d_o, H)
    return d_i, d_f, d_g, d_o, dc_prev


@triton.jit
def store_start_gradient(d_h0, dh, grad_h_n, n, length, rows, units, B, H):
    """d_h0 ``[N, B, H]`` S from what comes through step 0; a row without any step hands that of h_n through."""
    there = inside(rows, units, B, H)
    empty = there & (length <= 0)[:, None]
    dh = tl.where(empty, last_gradient(grad_h_n, n, rows, units, empty, B, H), dh)
    state = state_at(n, rows, units, B, H)
    tl.store(d_h0 + state, narrow(dh, d_h0.dtype.element_ty), mask=there)
