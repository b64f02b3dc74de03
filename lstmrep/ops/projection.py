"""The LSTM with a projected output (torch's ``proj_size``), made of the one op and library products.

With m = o*tanh(c) and h = W_hr m, the recurrence W_hh h' equals (W_hh W_hr) m': an ordinary recurrence over m.  Step 0
adds W_hh h_0 to the gates instead, and h is one product over all steps at the end.  Forming W_hh W_hr in bfloat16 or
float16 would round it, so low precision goes step by step in plain torch operations with a float32 cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lstmrep.backends.reference import cell_forward
from lstmrep.ops import autocast
from lstmrep.ops.functional import lstm
from lstmrep.ops.validate import COMPUTE_DTYPE


def projected_lstm(
    x: Tensor,
    w_ih: list[Tensor],
    w_hh: list[Tensor],
    w_hr: list[Tensor],
    *,
    bias: list[Tensor],
    peephole: list[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    reverse: list[bool],
    cell: str,
    backend: str,
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """N projected recurrences over one input.

    Args:
        x: ``[T, B, I]``.
        w_ih: N of ``[4H, I]``. w_hh: N of ``[4H, P]``. w_hr: N of ``[P, H]``.
        h0: ``[N, B, P]`` or none. c0: ``[N, B, H]`` or none.
        lengths: ``[N, B]`` int32 of 1 or more, or none.
        bias: N of ``[4H]``, or empty. peephole: 3N of ``[H]``, or empty.
        reverse, cell, backend, recompute: as in ``lstmrep.ops.lstm``.

    Returns:
        h ``[N, T, B, P]``, h_n ``[N, B, P]``, c_n ``[N, B, H]`` (float32 or float64).

    Source: Sak, Senior, Beaufays 2014 (LSTMP).
    """
    device = x.device.type
    if autocast.is_on(x):
        low = torch.get_autocast_dtype(device)
        x, h0 = x.to(low), None if h0 is None else h0.to(low)
        w_ih, w_hh, w_hr = ([w.to(low) for w in ws] for ws in (w_ih, w_hh, w_hr))
    # Library products of strided rows, or of rows off a cache line, round differently; a view must give a copy's bits.
    x = x.clone(memory_format=torch.contiguous_format)
    h0 = None if h0 is None else h0.clone(memory_format=torch.contiguous_format)
    with autocast.off(x):
        gates_x = torch.stack([torch.nn.functional.linear(x, w) for w in w_ih])
        if x.dtype in (torch.bfloat16, torch.float16):
            return _stepwise(gates_x, w_hh, w_hr, bias, peephole, h0, c0, lengths, reverse, cell)
        if h0 is not None and x.shape[0]:
            gates_x = _add_first(gates_x, torch.stack([h0[n] @ w.t() for n, w in enumerate(w_hh)]), lengths, reverse)
        m, m_n, c_n = lstm(
            gates_x,
            [],
            [hh @ hr for hh, hr in zip(w_hh, w_hr, strict=True)],
            bias=bias,
            peephole=peephole,
            c0=c0,
            lengths=lengths,
            reverse=reverse,
            cell=cell,
            backend=backend,
            recompute=recompute,
        )
        h = torch.stack([m[n] @ w.t() for n, w in enumerate(w_hr)])
        if h0 is not None and not x.shape[0]:
            return h, h0.clone(), c_n
        return h, torch.stack([m_n[n] @ w.t() for n, w in enumerate(w_hr)]), c_n


def _add_first(gates_x: Tensor, share: Tensor, lengths: Tensor | None, reverse: list[bool]) -> Tensor:
    """gates_x ``[N, T, B, 4H]`` with ``share`` [N, B, 4H] added at each row's first step."""
    n, t, b, _ = gates_x.shape
    last = torch.full((n, b), t - 1, device=gates_x.device) if lengths is None else lengths.long() - 1
    is_reversed = torch.tensor(reverse, device=gates_x.device)[:, None]
    frame = torch.where(is_reversed, last, torch.zeros_like(last))
    recurrences = torch.arange(n, device=gates_x.device)[:, None].expand(n, b)
    rows = torch.arange(b, device=gates_x.device)[None, :].expand(n, b)
    return gates_x.index_put((recurrences, frame, rows), share, accumulate=True)


def _stepwise(
    gates_x: Tensor,
    w_hh: list[Tensor],
    w_hr: list[Tensor],
    bias: list[Tensor],
    peephole: list[Tensor],
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    reverse: list[bool],
    cell: str,
) -> tuple[Tensor, Tensor, Tensor]:
    made = [
        _stepwise_one(
            gates_x[n],
            w_hh[n],
            w_hr[n],
            bias[n] if bias else None,
            torch.stack(peephole[3 * n : 3 * n + 3]) if peephole else None,
            None if h0 is None else h0[n],
            None if c0 is None else c0[n],
            None if lengths is None else lengths[n].long(),
            reverse[n],
            cell,
        )
        for n in range(len(w_hh))
    ]
    h, h_n, c_n = (torch.stack(parts) for parts in zip(*made, strict=True))
    return h, h_n, c_n


def _stepwise_one(
    gates_x: Tensor,
    w_hh: Tensor,
    w_hr: Tensor,
    bias: Tensor | None,
    peephole: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    is_reversed: bool,
    cell: str,
) -> tuple[Tensor, Tensor, Tensor]:
    steps, batch, _ = gates_x.shape
    io, compute = gates_x.dtype, COMPUTE_DTYPE[gates_x.dtype]
    recurrent, projection = w_hh.to(compute).t(), w_hr.to(compute).t()
    peephole = None if peephole is None else peephole.to(compute)
    h = gates_x.new_zeros(batch, w_hr.shape[0]) if h0 is None else h0
    c = gates_x.new_zeros(batch, w_hr.shape[1], dtype=compute) if c0 is None else c0.to(compute)
    rows = torch.arange(batch, device=gates_x.device)
    end = torch.full_like(rows, steps) if lengths is None else lengths
    out: list[Tensor] = []
    frames: list[Tensor] = []
    for t in range(steps):
        active = (t < end)[:, None]
        frame = torch.where(active[:, 0], end - 1 - t, t) if is_reversed else torch.full_like(rows, t)
        pre = gates_x[frame, rows].to(compute) + h.to(compute) @ recurrent
        if bias is not None:
            pre = pre + bias
        *_, c_next, m = cell_forward(pre, c, peephole, cell)
        h_next = (m @ projection).to(io)
        h, c = torch.where(active, h_next, h), torch.where(active, c_next, c)
        out.append(torch.where(active, h_next, torch.zeros_like(h_next)))
        frames.append(frame)
    if not out:
        return gates_x.new_zeros(0, batch, w_hr.shape[0]), h, c
    order = torch.stack(frames)[:, :, None]  # its own inverse
    return torch.gather(torch.stack(out), 0, order.expand(-1, -1, w_hr.shape[0])), h, c
