"""Derivatives of the op: one backward formula, used by three ways into autograd.

- eager: ``LSTMFunction`` runs the op below the dispatcher's autograd layer, the cheapest way (measured: about a third
  of the cost of going through a registered formula);
- torch.compile and torch.export: the formula is registered on the op, which stays one opaque node;
- torch.func: see ``lstmrep.ops.functorch``.

A second derivative is taken through the differentiable reference; forward-mode differentiation raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmrep.backends import reference
from lstmrep.backends.tensors import Recurrence, in_pairs
from lstmrep.ops import direct, validate
from lstmrep.ops.direct import Flat, Static
from lstmrep.ops.dispatch import backward_below_autograd, direct_backward, usual_forward
from lstmrep.ops.schema import BIAS, C0, COUNT, H0, LIBRARY, PEEPHOLE, W_HH, W_IH, Counts, Inputs, Passed, X, split

Gradients = list[list[Tensor | None]]  # by place: x, w_ih, w_hh, bias, peephole, h0, c0


def gradients(
    passed: Passed, i: Inputs, reverse: Sequence[bool], cell: str, backend: str, needs: list[bool]
) -> Gradients:
    """Gradients of the inputs by place, a list at each; none where not needed.

    Args:
        passed: gradients of the outputs, and what the forward pass saved.
        i: the inputs.
        reverse, cell, backend: as in the forward pass.
        needs: which of the seven differentiable inputs want a gradient.
    """
    if not any(needs) or all(g is None for g in passed[:3]):
        return place([], [False] * len(needs), i)
    if torch.is_grad_enabled():  # create_graph=True: the result must itself be differentiable
        return _differentiable_gradients(passed, i, reverse, cell, needs)
    return place(backward_below_autograd(passed, i, reverse, cell, backend, needs), needs, i)


def place(found: Sequence[Tensor], needs: list[bool], i: Inputs) -> Gradients:
    """Gradients that were asked for, as lstm_backward returns them, to their places; views, no copies."""
    given = iter(found)
    placed: Gradients = [[None], [None] * len(i.w_ih), [None] * len(i.w_hh), [], [], [None], [None]]
    if needs[X]:
        placed[X] = [next(given)]
    if needs[W_IH]:
        placed[W_IH] = [next(given) for _ in i.w_ih]
    if needs[W_HH]:
        w_hh = next(given)
        placed[W_HH] = [w_hh] if len(i.w_hh) == 1 else list(w_hh.unbind(0))
    placed[BIAS], placed[PEEPHOLE] = [None] * len(i.bias), [None] * len(i.peephole)
    if needs[BIAS] or needs[PEEPHOLE]:
        vectors, n = next(given), len(i.w_hh)
        units = n * i.w_hh[0].shape[1]
        if needs[BIAS]:
            pairs = in_pairs(i.bias, n)
            made = _parts(vectors, 0, 4 * units, i.bias[::2] if pairs else i.bias)
            placed[BIAS] = [part for part in made for _ in range(2)] if pairs else made
        if needs[PEEPHOLE]:
            placed[PEEPHOLE] = _parts(vectors, 4 * units, 3 * units, i.peephole)
    for k in (H0, C0):
        if needs[k]:
            placed[k] = [next(given)]
    return placed


def _parts(vectors: Tensor, at: int, size: int, like: list[Tensor]) -> list[Tensor | None]:
    """``size`` elements from ``at`` on as tensors like those given."""
    each = size // len(like)
    parts = (
        [vectors] if each == vectors.shape[0] else [vectors.narrow(0, at + k * each, each) for k in range(len(like))]
    )
    return [p if v.dim() == 1 else p.view(v.shape) for p, v in zip(parts, like, strict=True)]


def in_flat_order(placed: Gradients) -> tuple[Tensor | None, ...]:
    """Gradients in the order of ``Inputs.flat``; lengths have none."""
    x, w_ih, w_hh, bias, peephole, h0, c0 = placed
    return (*x, *h0, *c0, None, *w_ih, *w_hh, *bias, *peephole)


def reference_outputs(i: Inputs, steps: int, reverse: Sequence[bool], cell: str) -> tuple[Tensor, Tensor, Tensor]:
    """h, h_n and c_n by plain differentiable torch operations (any derivative, any transform)."""
    s = validate.check(i, steps, reverse, cell)
    gates_x = x = i.x
    if x is not None and i.w_ih:
        gates_x = torch.stack([(x if x.dim() == 3 else x[n]) @ w.t() for n, w in enumerate(i.w_ih)])
    r = Recurrence(s, list(reverse), cell, i.w_hh, i.bias, i.peephole, i.h0, i.c0, i.lengths)
    h, h_n, c_n, _, _ = reference.run(r, gates_x)
    return h, h_n, c_n


def _differentiable_gradients(
    passed: Passed, i: Inputs, reverse: Sequence[bool], cell: str, needs: list[bool]
) -> Gradients:
    def fresh(t: Tensor | None) -> Tensor | None:
        # A view each, so that a tensor passed twice has two places to collect its gradient.
        return None if t is None else t.view_as(t)

    i = Inputs.from_flat([fresh(t) for t in i.flat()], i.counts)
    outputs = reference_outputs(i, passed.h.shape[1], reverse, cell)
    places = [value if isinstance(value, list) else [value] for value in i[: len(needs)]]
    wanted = [t for tensors, need in zip(places, needs, strict=True) if need for t in tensors if t is not None]
    pairs = [(o, g) for o, g in zip(outputs, passed[:3], strict=True) if g is not None and o.requires_grad]
    flat: Sequence[Tensor | None] = [None] * len(wanted)
    if pairs:
        made, given = [o for o, _ in pairs], [g for _, g in pairs]
        flat = torch.autograd.grad(made, wanted, given, create_graph=True, allow_unused=True)
    found = iter([torch.zeros_like(w) if g is None else g for g, w in zip(flat, wanted, strict=True)])
    return [[next(found) if need else None for _ in tensors] for tensors, need in zip(places, needs, strict=True)]


def asked(needs_input_grad: Sequence[bool], counts: Counts) -> list[bool]:
    """Which of the seven inputs want a gradient, from ``ctx.needs_input_grad`` of ``apply(static, *inputs.flat())``."""
    x, h0, c0, _, *lists = needs_input_grad[1:]
    return [x, *(any(each) for each in split(lists, counts)), h0, c0]


class LSTMFunction(torch.autograd.Function):
    """Eager autograd. ``apply((static, direct call or none, layer), *inputs.flat())`` -> h, h_n, c_n."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, told: tuple[Static, Any, bool], *flat: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        static, call, layer = told
        made = usual_forward(static, flat) if call is None else direct.forward(call, static, flat, layer)
        h, h_n, c_n, gates, c = made
        ctx.set_materialize_grads(False)
        ctx.static = static
        ctx.save_for_backward(h, gates if static[-1] == "all" else None, c, *flat)
        return h, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved = ctx.saved_tensors  # read once: each reading runs saved-tensor hooks
        made = direct_backward(ctx.static, grads, saved, ctx.needs_input_grad)
        if made is not None:
            return made
        counts, _, reverse, cell, backend, _ = ctx.static
        h, gates, c, *flat = saved
        i = Inputs.from_flat(flat, counts)
        needs = asked(ctx.needs_input_grad, counts)
        placed = gradients(Passed.of(grads[0], grads[1], grads[2], h, gates, c), i, reverse, cell, backend, needs)
        return None, *in_flat_order(placed)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise forward_mode_error()


# ``Function.apply`` looks for tensors that have outlived a transform of functorch's; a direct call has none.
_apply_direct = super(torch.autograd.Function, LSTMFunction).apply


def recorded(static: Static, call: Any, flat: Flat, layer: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """h, h_n and c_n, whose derivative autograd records.

    Args:
        static: of the call.
        call: what runs it, or none.
        flat: its inputs.
        layer: whether ``call`` gives h as ``[T, B, H]``.
    """
    apply = LSTMFunction.apply if call is None else _apply_direct
    made: tuple[Tensor, Tensor, Tensor] = apply((static, call, layer), *flat)
    return made


def forward_mode_error() -> NotImplementedError:
    """The one sentence for forward-mode differentiation."""
    return NotImplementedError(
        "lstmrep: forward-mode differentiation is not implemented by the kernels; "
        "use reverse mode, or torch.func with backend='reference'."
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    i = Inputs(*inputs[:COUNT])
    _, reverse, cell, backend, save = inputs[COUNT:]
    h, _, _, gates, c = output
    if save == "nothing":
        raise RuntimeError("lstmrep::lstm: save='nothing' keeps nothing for a gradient; pass 'states' or 'all'.")
    ctx.mark_non_differentiable(gates, c)
    ctx.set_materialize_grads(False)
    flat = i.flat()
    wants = (False, *(t is not None and t.requires_grad for t in flat))
    ctx.static = (i.counts, list(reverse), cell, backend, asked(wants, i.counts))
    ctx.save_for_backward(h, gates if save == "all" else None, c, *flat)


def _registered_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    counts, reverse, cell, backend, needs = ctx.static
    h, gates, c, *flat = ctx.saved_tensors
    i = Inputs.from_flat(flat, counts)
    placed = gradients(Passed(grads[0], grads[1], grads[2], h, gates, c), i, reverse, cell, backend, needs)
    x, w_ih, w_hh, bias, peephole, h0, c0 = placed
    return *x, w_ih, w_hh, bias, peephole, *h0, *c0, None, None, None, None, None, None


torch.library.register_autograd("lstmrep::lstm", _registered_backward, setup_context=_setup_context, lib=LIBRARY)
