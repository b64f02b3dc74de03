"""The op under torch.func transforms: grad, vmap and their compositions.

A mapped dimension V becomes more recurrences side by side: N of them turn into V*N.  Weights travel as lists, so
weights that are not mapped are passed V times and never copied.  First derivatives only; with
``backend="reference"`` the op is plain torch operations and every transform works.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstmrep.ops.autograd import asked, forward_mode_error, in_flat_order, place
from lstmrep.ops.schema import SINGLE, Inputs

_SAVED = 6  # grad_h, grad_h_n, grad_c_n, h, gates, c


class LSTMTransform(torch.autograd.Function):
    """Like ``LSTMFunction``, in the form that functorch asks for.

    ``apply(static, *inputs.flat())`` -> h, h_n, c_n, gates, c.
    """

    @staticmethod
    def forward(static: Any, *flat: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        n_ih, *rest = static
        out: tuple[Tensor, ...] = torch.ops.lstmrep.lstm.default(*Inputs.from_flat(flat, n_ih), *rest)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        static, *flat = inputs
        h, _, _, gates, c = output
        ctx.mark_non_differentiable(gates, c)
        ctx.set_materialize_grads(False)
        ctx.static = static
        ctx.save_for_backward(h, gates if static[-1] == "all" else None, c, *flat)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        n_ih, _, reverse, cell, backend, _ = ctx.static
        needs = asked(ctx.needs_input_grad, n_ih)
        static = (n_ih, reverse, cell, backend, needs)
        h, gates, c, *flat = ctx.saved_tensors
        made = LSTMTransformBackward.apply(static, *grads[:3], h, gates, c, *flat)
        return None, *in_flat_order(place(list(made), needs, Inputs.from_flat(tuple(flat), n_ih)))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise forward_mode_error()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], static: Any, *flat: Any) -> tuple[Any, Any]:
        n_ih, steps, reverse, *rest = static
        size = info.batch_size
        many = _fold_inputs(flat, in_dims[1:], size, n_ih)
        out = LSTMTransform.apply((len(many.w_ih), steps, list(reverse) * size, *rest), *many.flat())
        return tuple(_unfold(t, size) for t in out), (0,) * len(out)


class LSTMTransformBackward(torch.autograd.Function):
    """The backward op with a vmap rule. Its own derivative raises.

    ``apply(static, grad_h, grad_h_n, grad_c_n, h, gates, c, *inputs.flat())`` -> the gradients asked for.
    """

    @staticmethod
    def forward(static: Any, *tensors: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        n_ih, *rest = static
        i = Inputs.from_flat(tensors[_SAVED:], n_ih)
        return tuple(torch.ops.lstmrep.lstm_backward.default(*tensors[:3], *i, *tensors[3:_SAVED], *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing to keep: there is no second derivative."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        raise NotImplementedError(
            "lstmrep: second derivatives under torch.func are not implemented by the kernels; "
            "pass backend='reference', which supports every transform."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], static: Any, *tensors: Any) -> tuple[Any, Any]:
        n_ih, reverse, cell, backend, needs = static
        size = info.batch_size
        dims = in_dims[1:]
        saved = [_fold(t, d, size) for t, d in zip(tensors[:_SAVED], dims[:_SAVED], strict=True)]
        many = _fold_inputs(tensors[_SAVED:], dims[_SAVED:], size, n_ih)
        folded = (len(many.w_ih), list(reverse) * size, cell, backend, needs)
        made = LSTMTransformBackward.apply(folded, *saved, *many.flat())
        x, w_ih, w_hh, *rest = place(list(made), needs, many)
        out: list[Tensor] = []
        if needs[0]:
            d_x = _unfold(x[0], size)  # [V, N, T, B, I]
            shared = tensors[_SAVED].dim() - (dims[_SAVED] is not None) == 3
            out.append(d_x.sum(1) if shared else d_x)
        for group, need in ((w_ih, needs[1]), (w_hh, needs[2])):
            if need:
                n = len(group) // size
                out += [torch.stack(group[k::n]) for k in range(n)]  # type: ignore[arg-type]
        out += [_unfold(g[0], size) for g in rest if g[0] is not None]
        return tuple(out), (0,) * len(out)


def _front(t: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension first; a tensor that is not mapped is seen V times, without a copy."""
    return t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def _fold(t: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """``[N, ...]`` to ``[V*N, ...]``."""
    return None if t is None else _front(t, dim, size).flatten(0, 1)


def _unfold(t: Any, size: int) -> Tensor:
    """``[V*N, ...]`` to ``[V, N, ...]``."""
    made: Tensor = t.unflatten(0, (size, -1))
    return made


def _fold_inputs(flat: tuple[Any, ...], dims: tuple[int | None, ...], size: int, n_ih: int) -> Inputs:
    """N recurrences to V*N. A sample's shared x ``[T, B, I]`` is seen by each of its recurrences."""
    n = len(flat) - SINGLE - n_ih
    x, *others = flat[:SINGLE]
    if x is not None:
        x = _front(x, dims[0], size)  # [V, T, B, I] or [V, N, T, B, I]
        if n_ih and x.dim() == 4:
            x = x.unsqueeze(1).expand(-1, n, -1, -1, -1)
        x = x.flatten(0, 1)
    folded = [_fold(t, d, size) for t, d in zip(others, dims[1:SINGLE], strict=True)]
    weights = [_repeat(flat[k], dims[k], size) for k in range(SINGLE, len(flat))]
    in_sample_order = [w for group in (weights[:n_ih], weights[n_ih:]) for one in zip(*group, strict=True) for w in one]
    return Inputs.from_flat((x, *folded, *in_sample_order), size * n_ih)


def _repeat(w: Tensor, dim: int | None, size: int) -> list[Tensor]:
    """A matrix for each sample; one that is not mapped is repeated by reference."""
    return [w] * size if dim is None else list(w.unbind(dim))
