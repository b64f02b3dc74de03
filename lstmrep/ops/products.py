"""The matrix products around the recurrence: input share of the gates, weight gradients, recomputed gates.

Each is one library product over all T*B rows at once (one for each recurrence).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lstmrep.backends import memory, reference
from lstmrep.backends.product import wide_product
from lstmrep.backends.tensors import Recurrence, Shape

RECOMPUTE_ROWS = 256
ALIGNMENT = 64  # of torch's own CPU allocations


def _rows(x: Tensor, n: int) -> Tensor:
    """Frames of recurrence n as a matrix ``[T*B, I]``; a 3-D x is shared by all recurrences."""
    one = x if x.dim() == 3 else x[n]
    rows = one.reshape(-1, one.shape[-1])
    # CPU libraries may sum in another order where data start off a cache line (MKL does, in float64 with AVX2).
    return rows.clone() if rows.data_ptr() % ALIGNMENT and rows.device.type == "cpu" else rows


def _written_rows(x: Tensor, n: int) -> Tensor:
    """The same of a dense tensor, to write to."""
    return (x if x.dim() == 3 else x[n]).view(-1, x.shape[-1])


def input_share(
    x: Tensor | None, w_ih: list[Tensor], s: Shape, *, turned: bool = False, out: Tensor | None = None
) -> Tensor | None:
    """Gates' input share ``[N, T, B, 4H]``: x W_ih^T, x itself when there is no W_ih, none when there is no x.

    Args:
        x, w_ih, s: inputs and sizes of the call.
        turned: form W_ih x^T and write it transposed; the plan says where that is faster.
        out: where the product goes; fresh memory by default.
    """
    if x is None or not w_ih:
        return x
    if s.N == 1 and out is None and not turned:
        return memory.product(_rows(x, 0), w_ih[0].t()).view(1, s.T, s.B, 4 * s.H)
    if out is None:
        out = memory.empty((s.N, s.T, s.B, 4 * s.H), s.dtype, s.device)
    for n, w in enumerate(w_ih):
        to = out[n].view(-1, 4 * s.H)
        if turned:
            to.copy_(torch.mm(w, _rows(x, n).t()).t())
        else:
            torch.mm(_rows(x, n), w.t(), out=to)
    return out


def input_gradient(d_gates: Tensor, x: Tensor, w_ih: list[Tensor], s: Shape) -> Tensor:
    """Gradient of x, in x's shape: d_gates W_ih, summed over recurrences that share x."""
    if not w_ih:
        return d_gates
    out = memory.empty(tuple(x.shape), s.dtype, s.device)
    for n, w in enumerate(w_ih):
        rows = d_gates[n].view(-1, 4 * s.H)
        if x.dim() == 4 or n == 0:
            torch.mm(rows, w, out=_written_rows(out, n))
        else:
            _written_rows(out, n).addmm_(rows, w)
    return out


def input_weight_gradient(d_gates: Tensor, x: Tensor, n: int) -> Tensor:
    """Gradient of W_ih of recurrence n, ``[4H, I]``."""
    return memory.product(d_gates[n].view(-1, d_gates.shape[-1]).t(), _rows(x, n))


def recurrent_weight_gradients(d_gates: Tensor, h: Tensor, r: Recurrence, *, together: bool) -> Tensor:
    """Gradients of all W_hh, ``[N, 4H, H]`` (``[4H, H]`` for N = 1): the sum over frames of d_gates times the h before.

    Args:
        d_gates: ``[N, T, B, 4H]``. h: ``[N, T, B, H]``.
        r: start states and flags.
        together: all recurrences in one product and their first steps in another, where all run one way; without it
            each recurrence has a product of its own, and one with a start state copies h first.
    """
    s = r.shape
    backwards = any(r.reverse)
    if not together or not s.T or (backwards and (not all(r.reverse) or r.lengths is not None)):
        if s.N == 1:
            return memory.product(*_recurrent_factors(d_gates, h, r, 0))
        out = memory.empty((s.N, 4 * s.H, s.H), s.dtype, s.device)
        for n in range(s.N):
            torch.mm(*_recurrent_factors(d_gates, h, r, n), out=out[n])
        return out

    made = _recurrent_products(d_gates, h, r, backwards)
    return made[0] if s.N == 1 else made


def _recurrent_products(d_gates: Tensor, h: Tensor, r: Recurrence, backwards: bool) -> Tensor:
    """Those of all recurrences together, ``[N, 4H, H]``."""
    s = r.shape

    def product(d: Tensor, before: Tensor, onto: Tensor | None) -> Tensor:
        rows = d.flatten(1, 2).transpose(1, 2), before.flatten(1, 2)
        return torch.bmm(*rows) if onto is None else onto.baddbmm_(*rows)

    made = None
    if r.start_h is not None:  # first the smaller part, so that rounding it costs least
        first = s.T - 1 if backwards else 0
        made = product(d_gates[:, first : first + 1], r.start_h.expand(s.N, -1, -1).unsqueeze(1), None)
    if s.T == 1 and made is not None:
        return made
    if backwards:
        return product(d_gates[:, :-1], h[:, 1:], made)
    return product(d_gates[:, 1:], h[:, :-1], made)


def _recurrent_factors(d_gates: Tensor, h: Tensor, r: Recurrence, n: int) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is the gradient of W_hh of recurrence n."""
    s = r.shape
    d = d_gates[n]
    if r.h0 is None and s.T and (r.lengths is None or not r.reverse[n]):
        # No start state: the first step adds nothing, and the frame next to it is the h before.
        d, before = (d[:-1], h[n][1:]) if r.reverse[n] else (d[1:], h[n][:-1])
    else:
        before = previous(h[n], None if r.h0 is None else r.h0[n], r, n)
    return d.reshape(-1, 4 * s.H).t(), before.reshape(-1, s.H)


def previous(states: Tensor, start: Tensor | None, r: Recurrence, n: int) -> Tensor:
    """For each frame of recurrence n the state before its step: ``states`` [T, B, H] moved by one, ``start`` first."""
    s = r.shape
    out = torch.zeros_like(states)
    if not s.T:
        return out
    if not r.reverse[n]:
        out[1:] = states[:-1]
        if start is not None:
            out[0] = start
        return out
    out[:-1] = states[1:]  # frames beyond a sequence's end hold zeros
    if start is not None:
        if r.lengths is None:
            out[-1] = start
        else:
            first = (r.lengths[n].long() - 1).clamp_min(0)
            out[first, torch.arange(s.B, device=out.device)] = start
    return out


def recomputed_gates(gates_x: Tensor | None, owned: bool, h: Tensor, c: Tensor, r: Recurrence) -> Tensor:
    """Gates after their non-linearity, formed again from h and c: products over all frames, no recurrence.

    Args:
        gates_x: ``[N, T, B, 4H]`` input share or none.
        owned: gates_x may be overwritten with the result.
        h: ``[N, T, B, H]``. c: ``[N, T, B, H]``.
        r: weights, start states and flags.

    Returns:
        ``[N, T, B, 4H]`` in the I/O dtype. Frames beyond a sequence's end hold finite values that nobody reads.
    """
    s = r.shape
    gates = gates_x if gates_x is not None and owned else memory.empty((s.N, s.T, s.B, 4 * s.H), s.dtype, s.device)
    # Enough rows to keep the product busy, few enough that its wide result stays a small part of the memory saved.
    block = max(1, RECOMPUTE_ROWS // max(1, s.B))
    for n in range(s.N):
        h_before = previous(h[n], None if r.h0 is None else r.h0[n], r, n)
        c_before = previous(c[n], None if r.c0 is None else r.c0[n], r, n)
        peephole = None if r.peephole is None else r.peephole[n]
        for t in range(0, s.T, block):
            rows = h_before[t : t + block].view(-1, s.H)
            pre = memory.empty((rows.shape[0], 4 * s.H), s.compute, s.device)
            wide_product(rows, r.w_hh[n].t(), pre)
            out = gates[n, t : t + block].view(-1, 4 * s.H)
            if gates_x is not None:
                pre += gates_x[n, t : t + block].reshape(-1, 4 * s.H)
            if r.bias is not None:
                pre += r.bias[n]
            i, f, g, o, _, _ = reference.cell_forward(pre, c_before[t : t + block].view(-1, s.H), peephole, r.cell)
            for k, gate in enumerate((i, f, g, o)):
                out[:, k * s.H : (k + 1) * s.H] = gate
    return gates
