"""Derivatives of the op: one backward formula, used by three ways into autograd.

- eager: ``LSTMFunction`` runs the op below the dispatcher's autograd layer, the cheapest way (measured: about a third
  of the cost of going through a registered formula);
- torch.compile and torch.export: the formula is registered on the op, which stays one opaque node;
- torch.func: see ``lstmrep.ops.functorch``.

A second derivative is taken through the differentiable reference; forward-mode differentiation raises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstmrep.backends import reference
from lstmrep.backends.tensors import Recurrence
from lstmrep.ops import validate
from lstmrep.ops.dispatch import forward_below_autograd
from lstmrep.ops.schema import BIAS, C0, H0, LIBRARY, PEEPHOLE, W_HH, W_IH, X

Gradients = list[Tensor | None]


class Saved:
    """What a backward pass needs, packed flat for save_for_backward and unpacked once."""

    __slots__ = ("n_ih",)

    def __init__(self, n_ih: int) -> None:
        self.n_ih = n_ih

    def unpack(self, saved: tuple[Any, ...]) -> tuple[Any, ...]:
        """x, w_ih list, w_hh list, bias, peephole, h0, c0, lengths, h, gates, c."""
        x, bias, peephole, h0, c0, lengths, h, gates, c = saved[:9]
        w_ih = list(saved[9 : 9 + self.n_ih])
        w_hh = list(saved[9 + self.n_ih :])
        return x, w_ih, w_hh, bias, peephole, h0, c0, lengths, h, gates, c


def gradients(
    tensors: tuple[Any, ...],
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    reverse: list[bool],
    cell: str,
    backend: str,
    needs: list[bool],
) -> Gradients:
    """Gradients of the inputs in the order of ``schema.INPUTS``, lists flattened, none where not needed."""
    x, w_ih, w_hh, bias, peephole, h0, c0, lengths, h, gates, c = tensors
    if not any(needs) or all(g is None for g in grads):
        return [None] * (5 + len(w_ih) + len(w_hh))
    if torch.is_grad_enabled():  # create_graph=True: the result must itself be differentiable
        inputs = (x, w_ih, w_hh, bias, peephole, h0, c0)
        return _differentiable_gradients(inputs, lengths, h.shape[1], grads, reverse, cell, needs)
    flat = torch.ops.lstmrep.lstm_backward(
        *grads, x, w_ih, w_hh, bias, peephole, h0, c0, lengths, h, gates, c, reverse, cell, backend, needs
    )
    return spread(flat, needs, len(w_ih), len(w_hh))


def spread(flat: list[Tensor], needs: list[bool], n_ih: int, n_hh: int) -> Gradients:
    """Put the gradients that were asked for at their places, none elsewhere."""
    given = iter(flat)
    out: Gradients = []
    for index, count in ((X, 1), (W_IH, n_ih), (W_HH, n_hh), (BIAS, 1), (PEEPHOLE, 1), (H0, 1), (C0, 1)):
        out += [next(given) if needs[index] else None for _ in range(count)]
    return out


def reference_outputs(
    x: Tensor | None,
    w_ih: list[Tensor],
    w_hh: list[Tensor],
    bias: Tensor | None,
    peephole: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    steps: int,
    reverse: list[bool],
    cell: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """h, h_n and c_n by plain differentiable torch operations (any derivative, any transform)."""
    s = validate.check(x, w_ih, w_hh, bias, peephole, h0, c0, lengths, steps, reverse, cell)
    gates_x = x
    if x is not None and w_ih:
        gates_x = torch.stack([(x if x.dim() == 3 else x[n]) @ w.t() for n, w in enumerate(w_ih)])
    r = Recurrence(s, reverse, cell, w_hh, bias, peephole, h0, c0, lengths)
    h, h_n, c_n, _, _ = reference.run(r, gates_x)
    return h, h_n, c_n


def _differentiable_gradients(
    inputs: tuple[Any, ...],
    lengths: Tensor | None,
    steps: int,
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    reverse: list[bool],
    cell: str,
    needs: list[bool],
) -> Gradients:
    def fresh(value: Any) -> Any:
        # A view each, so that a tensor passed twice has two places to collect its gradient.
        if isinstance(value, list):
            return [v.view_as(v) for v in value]
        return None if value is None else value.view_as(value)

    x, w_ih, w_hh, bias, peephole, h0, c0 = [fresh(v) for v in inputs]
    outputs = reference_outputs(x, w_ih, w_hh, bias, peephole, h0, c0, lengths, steps, reverse, cell)
    wanted: list[Tensor] = []
    for value, need in zip((x, w_ih, w_hh, bias, peephole, h0, c0), needs, strict=True):
        if need:
            wanted += value if isinstance(value, list) else [value]
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
    if not pairs:
        return spread([torch.zeros_like(w) for w in wanted], needs, len(w_ih), len(w_hh))
    flat = torch.autograd.grad(
        [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
    )
    filled = [torch.zeros_like(w) if g is None else g for g, w in zip(flat, wanted, strict=True)]
    return spread(filled, needs, len(w_ih), len(w_hh))


def needed(*inputs: Any) -> list[bool]:
    """Which of the seven differentiable inputs need a gradient; a list needs one when any of its tensors does."""
    return [
        any(t.requires_grad for t in value)
        if isinstance(value, (list, tuple))
        else value is not None and value.requires_grad
        for value in inputs
    ]


def asked_gradients(asked: tuple[bool, ...], n_ih: int) -> list[bool]:
    """``ctx.needs_input_grad`` of ``apply(x, bias, peephole, h0, c0, lengths, static, *w_ih, *w_hh)`` in op order."""
    return [asked[0], any(asked[7 : 7 + n_ih]), any(asked[7 + n_ih :]), *asked[1:5]]


class LSTMFunction(torch.autograd.Function):
    """Eager autograd. ``apply(x, bias, peephole, h0, c0, lengths, static, *w_ih, *w_hh)`` -> h, h_n, c_n."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor | None,
        bias: Tensor | None,
        peephole: Tensor | None,
        h0: Tensor | None,
        c0: Tensor | None,
        lengths: Tensor | None,
        static: tuple[int, list[bool], str, str, str, int],
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, reverse, cell, backend, save, n_ih = static
        w_ih, w_hh = list(weights[:n_ih]), list(weights[n_ih:])
        h, h_n, c_n, gates, c = forward_below_autograd(
            x, w_ih, w_hh, bias, peephole, h0, c0, lengths, steps, reverse, cell, backend, save
        )
        ctx.set_materialize_grads(False)
        ctx.static = static
        ctx.packed = Saved(n_ih)
        kept = gates if save == "all" else None
        ctx.save_for_backward(x, bias, peephole, h0, c0, lengths, h, kept, c, *weights)
        return h, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        _, reverse, cell, backend, _, n_ih = ctx.static
        needs = asked_gradients(ctx.needs_input_grad, n_ih)
        tensors = ctx.packed.unpack(ctx.saved_tensors)
        flat = gradients(tensors, (grads[0], grads[1], grads[2]), reverse, cell, backend, needs)
        return flat[0], *flat[-4:], None, None, *flat[1:-4]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise forward_mode_error()


def forward_mode_error() -> NotImplementedError:
    """The one sentence for forward-mode differentiation."""
    return NotImplementedError(
        "lstmrep: forward-mode differentiation is not implemented by the kernels; "
        "use reverse mode, or torch.func with backend='reference'."
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, w_ih, w_hh, bias, peephole, h0, c0, lengths, _, reverse, cell, backend, save = inputs
    h, _, _, gates, c = output
    if save == "nothing":
        raise RuntimeError("lstmrep::lstm: save='nothing' keeps nothing for a gradient; pass 'states' or 'all'.")
    ctx.mark_non_differentiable(gates, c)
    ctx.set_materialize_grads(False)
    ctx.static = (list(reverse), cell, backend, needed(x, w_ih, w_hh, bias, peephole, h0, c0))
    ctx.packed = Saved(len(w_ih))
    kept = gates if save == "all" else None
    ctx.save_for_backward(x, bias, peephole, h0, c0, lengths, h, kept, c, *w_ih, *w_hh)


def _registered_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    reverse, cell, backend, needs = ctx.static
    tensors = ctx.packed.unpack(ctx.saved_tensors)
    n_ih, n_hh = len(tensors[1]), len(tensors[2])
    flat = gradients(tensors, (grads[0], grads[1], grads[2]), reverse, cell, backend, needs)
    x, w_ih, w_hh = flat[0], flat[1 : 1 + n_ih], flat[1 + n_ih : 1 + n_ih + n_hh]
    bias, peephole, h0, c0 = flat[-4:]
    return x, w_ih, w_hh, bias, peephole, h0, c0, None, None, None, None, None, None


torch.library.register_autograd("lstmrep::lstm", _registered_backward, setup_context=_setup_context, lib=LIBRARY)
