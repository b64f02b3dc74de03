"""Implementations of the two torch ops: validate, plan, allocate, call a backend.

Nothing above takes an address and nothing below allocates an output.  docs/design.md follows a call hop by hop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lstmrep.backends import TABLE, memory
from lstmrep.backends.tensors import Backward, Final, Forward, Gradients, Recurrence, Shape
from lstmrep.ops import autocast, fake, products, validate
from lstmrep.ops.plans import sizes_and_plan
from lstmrep.ops.schema import BIAS, C0, COUNT, H0, LIBRARY, PEEPHOLE, W_HH, W_IH, Inputs, Passed, X
from lstmrep.plan import Plan


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def forward_pass(
    i: Inputs, steps: int, reverse: Sequence[bool], cell: str, backend: str, save: str
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """h, h_n, c_n, and the gates and c where ``save`` asks for them."""
    training, recompute = save != "nothing", save == "states"
    s, made = sizes_and_plan(i, steps, reverse, cell, backend, training=training, recompute=recompute)
    validate.check_lengths(i.lengths, steps)
    with autocast.off(i.w_hh[0]):
        gates_x = None if made.shares else products.input_share(i.x, i.w_ih, s, turned=made.turned)
        frames = (s.N, s.T, s.B)
        gates = None
        if save == "all":
            # The input share is ours when we formed it: the gates take its place.
            ours = i.w_ih and not made.shares
            gates = gates_x if ours else memory.empty((*frames, 4 * s.H), s.dtype, s.device)
        a = Forward(
            gates_x=_dense(gates_x),
            h=memory.empty((*frames, s.H), s.dtype, s.device),
            h_n=memory.empty((s.N, s.B, s.H), s.dtype, s.device),
            c_n=memory.empty((s.N, s.B, s.H), s.compute, s.device),
            gates=gates,
            c=None if save == "nothing" else memory.empty((*frames, s.H), s.compute, s.device),
        )
        if made.shares:
            assert i.x is not None
            a.x = i.x if i.x.stride(-1) == 1 else i.x.contiguous()
            a.w_ih = [w.contiguous() for w in i.w_ih]
        r = _recurrence(s, i, reverse, cell)
        TABLE[made.backend].forward(made, r, a)
    return a.h, a.h_n, a.c_n, a.gates, a.c


def _recurrence(s: Shape, i: Inputs, reverse: Sequence[bool], cell: str) -> Recurrence:
    return Recurrence(
        s,
        list(reverse),
        cell,
        [w.contiguous() for w in i.w_hh],
        [v.contiguous() for v in i.bias],
        [v.contiguous() for v in i.peephole],
        _dense(i.h0),
        _dense(i.c0),
        _dense(i.lengths),
    )


def backward_pass(
    passed: Passed, i: Inputs, reverse: Sequence[bool], cell: str, backend: str, needs: list[bool]
) -> list[Tensor]:
    """The gradients that ``needs`` asks for, in the order of ``lstmrep::lstm_backward``."""
    h, gates, c = passed.h, passed.gates, passed.c
    s, made = sizes_and_plan(
        i, h.shape[1], reverse, cell, backend, training=True, recompute=gates is None, passed=passed
    )
    h, c = h.contiguous(), c.contiguous()
    with autocast.off(i.w_hh[0]):
        r = _recurrence(s, i, reverse, cell)
        entries = TABLE[made.backend]
        own = entries.gradients if made.gradients else None
        # All buffers before the first kernel, whose data replace everything else in the caches. Where the backend
        # reads the gate gradients itself, nobody does after this call.
        d_gates = memory.scratch_tensor((s.N, s.T, s.B, 4 * s.H), s.dtype, "d_gates") if own and i.w_ih else None
        if gates is None:
            gates_x = products.input_share(i.x, i.w_ih, s, turned=made.turned, out=d_gates)
            gates = products.recomputed_gates(_dense(gates_x), bool(i.w_ih), h, c, r)
            d_gates = gates  # ours, so the gradient takes its place
        else:
            gates = gates.contiguous()  # saved: never written
            if d_gates is None:
                d_gates = memory.empty((s.N, s.T, s.B, 4 * s.H), s.dtype, s.device)
        large = _large_buffers(i, s, d_gates, h, needs) if own else None
        final = _final(i, s, needs, entries.plain_vectors)
        d_bias, d_peephole = _plain_vectors(final.vectors if entries.plain_vectors else None, s)
        a = Backward(
            gates=gates,
            c=c,
            grad_h=_dense(passed.grad_h),
            grad_h_n=_dense(passed.grad_h_n),
            grad_c_n=_dense(passed.grad_c_n),
            d_gates=d_gates,
            d_h0=_plain_start(final.d_h0, s),
            d_c0=_plain_start(final.d_c0, s),
            d_bias=d_bias,
            d_peephole=d_peephole,
            final=final,
        )
        entries.backward(made, r, a)
        if not a.finished:
            final.finish(r, a)
        if own and large is not None:
            own(made, r, large)
            if i.w_ih:
                memory.offer(d_gates.nbytes, "d_gates")
            out = [large.d_x] if large.d_x is not None else [d_gates] if needs[X] else []
            out += [*large.d_w_ih, *([] if large.d_w_hh is None else [large.d_w_hh])]
        else:
            out = _products(made, r, i, d_gates, h, needs)
        vectors = final.vectors  # without the part of peepholes that are not there
        if vectors is not None and not i.peephole and vectors.shape[0] > 4 * s.N * s.H:
            vectors = vectors[: 4 * s.N * s.H]
        out += [g for g in (vectors, final.d_h0, final.d_c0) if g is not None]
    return out


def _products(made: Plan, r: Recurrence, i: Inputs, d_gates: Tensor, h: Tensor, needs: list[bool]) -> list[Tensor]:
    """Gradients of x, of each W_ih and of all W_hh, as ``needs`` asks for them, by library products."""
    s = r.shape
    out: list[Tensor] = []
    if needs[X]:
        assert i.x is not None
        out.append(products.input_gradient(d_gates, i.x, i.w_ih, s))
    if needs[W_IH]:
        assert i.x is not None
        out += [products.input_weight_gradient(d_gates, i.x, n) for n in range(s.N)]
    if needs[W_HH]:
        out.append(products.recurrent_weight_gradients(d_gates, h, r, together=bool(made.passes)))
    return out


def _large_buffers(i: Inputs, s: Shape, d_gates: Tensor, h: Tensor, needs: list[bool]) -> Gradients:
    """Buffers of the same gradients for a backend that forms them itself."""
    a = Gradients(d_gates, h)
    if i.w_ih:
        assert i.x is not None
        a.x = i.x if i.x.stride(-1) == 1 else i.x.contiguous()
        a.w_ih = [w.contiguous() for w in i.w_ih]
        if needs[X]:
            a.d_x = memory.empty(tuple(i.x.shape), s.dtype, s.device)
        if needs[W_IH]:
            a.d_w_ih = [memory.empty((4 * s.H, s.I), s.dtype, s.device) for _ in range(s.N)]
    if needs[W_HH]:
        a.d_w_hh = memory.empty((4 * s.H, s.H) if s.N == 1 else (s.N, 4 * s.H, s.H), s.dtype, s.device)
    return a


def _final(i: Inputs, s: Shape, needs: list[bool], plain_vectors: bool) -> Final:
    """Buffers of the small inputs' gradients."""

    def like(start: Tensor | None, wanted: bool) -> Tensor | None:
        if start is None or not wanted:
            return None
        return memory.empty(tuple(start.shape), start.dtype, s.device)

    vectors = None
    if needs[BIAS] or needs[PEEPHOLE]:
        size = (7 if i.peephole or plain_vectors else 4) * s.N * s.H
        vectors = memory.empty((size,), (i.bias or i.peephole)[0].dtype, s.device)
    return Final(like(i.h0, needs[H0]), like(i.c0, needs[C0]), vectors)


def _plain_start(final: Tensor | None, s: Shape) -> Tensor | None:
    """Where the plain gradient of a start state goes: the final one's place where they are one."""
    if final is None or final.shape[0] == s.N:
        return final
    return memory.empty((s.N, s.B, s.H), final.dtype, s.device)


def _plain_vectors(final: Tensor | None, s: Shape) -> tuple[Tensor | None, Tensor | None]:
    """The same of the biases ``[N, 4H]`` and the peepholes ``[N, 3, H]``."""
    if final is None:
        return None, None
    whole = final if final.dtype == s.compute else memory.empty(tuple(final.shape), s.compute, s.device)
    bias, peephole = whole.split_with_sizes((4 * s.N * s.H, 3 * s.N * s.H))
    return bias.view(s.N, 4 * s.H), peephole.view(s.N, 3, s.H)


def _lstm(*arguments: Any) -> tuple[Tensor, ...]:
    """The op: an op cannot return none, so what is not saved is an empty tensor."""
    h, h_n, c_n, gates, c = forward_pass(Inputs(*arguments[:COUNT]), *arguments[COUNT:])
    return h, h_n, c_n, h.new_empty(0) if gates is None else gates, c_n.new_empty(0) if c is None else c


def _lstm_backward(*arguments: Any) -> list[Tensor]:
    """The op: three gradients, the inputs, the rest."""
    grad_h, grad_h_n, grad_c_n, *rest = arguments
    h, gates, c, *static = rest[COUNT:]
    return backward_pass(Passed(grad_h, grad_h_n, grad_c_n, h, gates, c), Inputs(*rest[:COUNT]), *static)


# Op name -> its implementation, for tools that look inside an op.
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {"lstm": _lstm, "lstm_backward": _lstm_backward}

for _name, _implementation in IMPLEMENTATIONS.items():
    LIBRARY.impl(_name, _implementation, "CompositeExplicitAutograd")
torch.library.register_fake("lstmrep::lstm", fake.lstm, lib=LIBRARY)
torch.library.register_fake("lstmrep::lstm_backward", fake.lstm_backward, lib=LIBRARY)
