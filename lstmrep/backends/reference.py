"""Reference backend: plain torch operations, any device, any dtype, an explicit loop over time.

``run`` is differentiable by autograd (double backward goes through it); ``backward`` is the hand-written gradient
that the kernels implement, derived in docs/math.md.  Nothing here is fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lstmrep.backends.tensors import Backward, Forward, Recurrence
from lstmrep.plan import Plan


def cell_forward(
    pre: Tensor, c_prev: Tensor, peephole: Tensor | None, cell: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One cell. docs/math.md, "The cell".

    Args:
        pre: ``[B, 4H]`` sums of input, recurrent and bias shares.
        c_prev: ``[B, H]``.
        peephole: ``[3, H]`` or none.
        cell: ``"tanh"`` | ``"relu"``.

    Returns:
        i, f, g, o after their non-linearity, then c and h, each ``[B, H]``.
    """
    a_i, a_f, a_g, a_o = pre.chunk(4, dim=-1)
    if peephole is not None:
        a_i = a_i + peephole[0] * c_prev
        a_f = a_f + peephole[1] * c_prev
    i, f = torch.sigmoid(a_i), torch.sigmoid(a_f)
    g = torch.tanh(a_g) if cell == "tanh" else torch.relu(a_g)
    c = f * c_prev + i * g
    if peephole is not None:
        a_o = a_o + peephole[2] * c
    o = torch.sigmoid(a_o)
    h = o * (torch.tanh(c) if cell == "tanh" else c)
    return i, f, g, o, c, h


def run(r: Recurrence, gates_x: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The whole sequence, differentiable.

    Args:
        r: weights, states and flags.
        gates_x: ``[N, T, B, 4H]`` or none.

    Returns:
        h ``[N, T, B, H]``, h_n and c_n ``[N, B, H]``, gates ``[N, T, B, 4H]`` and c ``[N, T, B, H]``.
    """
    per_recurrence = [_run_one(r, n, None if gates_x is None else gates_x[n]) for n in range(r.shape.N)]
    h, h_n, c_n, gates, c = (torch.stack(parts) for parts in zip(*per_recurrence, strict=True))
    return h, h_n, c_n, gates, c


def _run_one(r: Recurrence, n: int, gates_x: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    s = r.shape
    w = r.w_hh[n].to(s.compute)
    like = w if gates_x is None else gates_x
    zeros = like.new_zeros(s.B, s.H, dtype=s.compute)
    h_state = zeros if r.h0 is None else r.h0[n].to(s.compute)
    c_state = zeros if r.c0 is None else r.c0[n].to(s.compute)
    peephole = None if r.peephole is None else r.peephole[n]
    rows = torch.arange(s.B, device=like.device)
    order = frame_of_step(r, n)
    by_frame: dict[str, list[Tensor]] = {"h": [], "gates": [], "c": []}
    for t in range(s.T):
        frame, active = _frame(r, n, t, order)
        pre = h_state @ w.t()
        if gates_x is not None:
            pre = pre + (gates_x[frame] if isinstance(frame, int) else gates_x[frame, rows]).to(s.compute)
        if r.bias is not None:
            pre = pre + r.bias[n]
        i, f, g, o, c, h = cell_forward(pre, c_state, peephole, r.cell)
        h = h.to(s.dtype).to(s.compute)  # the next step reads what a reader of h would see
        gates = torch.cat([i, f, g, o], dim=-1)
        if active is not None:
            by_frame["h"].append(torch.where(active, h, 0.0))
            by_frame["gates"].append(torch.where(active, gates, 0.0))
            by_frame["c"].append(torch.where(active, c, 0.0))
            h_state, c_state = torch.where(active, h, h_state), torch.where(active, c, c_state)
        else:
            by_frame["h"].append(h)
            by_frame["gates"].append(gates)
            by_frame["c"].append(c)
            h_state, c_state = h, c

    def in_frame_order(name: str, width: int) -> Tensor:
        steps = by_frame[name]
        if not steps:
            return like.new_zeros(0, s.B, width, dtype=s.compute)
        stacked = torch.stack(steps)
        if order is None:
            return stacked.flip(0) if r.reverse[n] else stacked
        return torch.gather(stacked, 0, order[:, :, None].expand(-1, -1, width))

    return (
        in_frame_order("h", s.H).to(s.dtype),
        h_state.to(s.dtype),
        c_state,
        in_frame_order("gates", 4 * s.H).to(s.dtype),
        in_frame_order("c", s.H),
    )


def _frame(r: Recurrence, n: int, t: int, order: Tensor | None) -> tuple[int | Tensor, Tensor | None]:
    """Frame of step t (an int, or ``[B]`` with lengths) and which rows are active (``[B, 1]`` or none for all).

    ``order`` is ``frame_of_step(r, n)``, formed once for all steps.
    """
    if r.lengths is None or order is None:
        return (r.shape.T - 1 - t if r.reverse[n] else t), None
    return order[t], (t < r.lengths[n])[:, None]


def frame_of_step(r: Recurrence, n: int) -> Tensor | None:
    """Frame of every step, ``[T, B]`` int64, or none without lengths. It is its own inverse."""
    if r.lengths is None:
        return None
    t = torch.arange(r.shape.T, device=r.lengths.device)[:, None].expand(-1, r.shape.B)
    length = r.lengths[n].long()[None, :]
    return torch.where(t < length, length - 1 - t, t) if r.reverse[n] else t


def forward(plan: Plan, r: Recurrence, a: Forward) -> None:
    """Fill ``a`` by ``run``."""
    with torch.no_grad():
        h, h_n, c_n, gates, c = run(r, a.gates_x)
        a.h.copy_(h)
        a.h_n.copy_(h_n)
        a.c_n.copy_(c_n)
        if a.gates is not None:
            a.gates.copy_(gates)
        if a.c is not None:
            a.c.copy_(c)


def cell_backward(
    gates: tuple[Tensor, ...], c_prev: Tensor, c: Tensor, peephole: Tensor | None, dh: Tensor, dc: Tensor, cell: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradient of one cell. docs/math.md, "Backward".

    Args:
        gates: i, f, g, o after their non-linearity, each ``[B, H]``.
        c_prev: ``[B, H]``, the cell state before the step.
        c: ``[B, H]``, the cell state after it.
        peephole: ``[3, H]`` or none.
        dh: ``[B, H]`` gradient of h. dc: ``[B, H]`` gradient of c from the steps after.
        cell: ``"tanh"`` | ``"relu"``.

    Returns:
        Gradients of the four sums before their non-linearity, then of c_prev, each ``[B, H]``.
    """
    i, f, g, o = gates
    if cell == "tanh":
        squashed = torch.tanh(c)
        d_squash = 1 - squashed * squashed
        d_candidate = 1 - g * g
    else:
        squashed, d_squash = c, torch.ones_like(c)
        d_candidate = (g > 0).to(g.dtype)
    d_o = dh * squashed * o * (1 - o)
    dc = dc + dh * o * d_squash
    if peephole is not None:
        dc = dc + d_o * peephole[2]
    d_i = dc * g * i * (1 - i)
    d_f = dc * c_prev * f * (1 - f)
    d_g = dc * i * d_candidate
    d_c_prev = dc * f
    if peephole is not None:
        d_c_prev = d_c_prev + d_i * peephole[0] + d_f * peephole[1]
    return d_i, d_f, d_g, d_o, d_c_prev


def backward(plan: Plan, r: Recurrence, a: Backward) -> None:
    """Fill ``a`` by the hand-written gradient, last step first."""
    with torch.no_grad():
        for n in range(r.shape.N):
            _backward_one(r, a, n)


def _backward_one(r: Recurrence, a: Backward, n: int) -> None:
    s = r.shape
    w = r.w_hh[n].to(s.compute)
    zeros = w.new_zeros(s.B, s.H)
    peephole = None if r.peephole is None else r.peephole[n]
    rows = torch.arange(s.B, device=w.device)
    # Gradients of the state after the step at hand. Rows whose sequence has ended hold them unchanged.
    dh_state = zeros if a.grad_h_n is None else a.grad_h_n[n].to(s.compute)
    dc_state = zeros if a.grad_c_n is None else a.grad_c_n[n]
    c0 = zeros if r.c0 is None else r.c0[n]
    bias_sum = w.new_zeros(4 * s.H)
    peephole_sum = w.new_zeros(3, s.H)
    order = frame_of_step(r, n)
    for t in reversed(range(s.T)):
        frame, active = _frame(r, n, t, order)
        at = (frame,) if isinstance(frame, int) else (frame, rows)
        gates = a.gates[n][at].to(s.compute).chunk(4, dim=-1)
        c = a.c[n][at]
        if t == 0:
            c_prev = c0
        else:
            before, _ = _frame(r, n, t - 1, order)
            c_prev = a.c[n][(before,) if isinstance(before, int) else (before, rows)]
        dh = dh_state if a.grad_h is None else dh_state + a.grad_h[n][at].to(s.compute)
        d_i, d_f, d_g, d_o, d_c_prev = cell_backward(gates, c_prev, c, peephole, dh, dc_state, r.cell)
        d_gates = torch.cat([d_i, d_f, d_g, d_o], dim=-1)
        if active is not None:
            # where, not a product: what lies beyond a sequence's end may be NaN
            d_gates = torch.where(active, d_gates, 0.0)
            d_c_prev = torch.where(active, d_c_prev, dc_state)
            c_prev = torch.where(active, c_prev, 0.0)
            c = torch.where(active, c, 0.0)
        a.d_gates[n][at] = d_gates.to(s.dtype)
        bias_sum += d_gates.sum(0)
        d_i, d_f, _, d_o = d_gates.chunk(4, dim=-1)
        peephole_sum += torch.stack([(c_prev * d_i).sum(0), (c_prev * d_f).sum(0), (c * d_o).sum(0)])
        d_h_prev = d_gates @ w
        dh_state = d_h_prev if active is None else torch.where(active, d_h_prev, dh_state)
        dc_state = d_c_prev
    if a.d_h0 is not None:
        a.d_h0[n] = dh_state.to(s.dtype)
    if a.d_c0 is not None:
        a.d_c0[n] = dc_state
    if a.d_bias is not None:
        a.d_bias[n] = bias_sum
    if a.d_peephole is not None:
        a.d_peephole[n] = peephole_sum
