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
from lstmrep.ops.schema import BIAS, C0, H0, PEEPHOLE, SINGLE, W_HH, W_IH, Counts, Inputs, X, split

_SAVED = 6  # grad_h, grad_h_n, grad_c_n, h, gates, c


class LSTMTransform(torch.autograd.Function):
    """Like ``LSTMFunction``, in the form that functorch asks for.

    ``apply(static, *inputs.flat())`` -> h, h_n, c_n, gates, c.
    """

    @staticmethod
    def forward(static: Any, *flat: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        counts, *rest = static
        out: tuple[Tensor, ...] = torch.ops.lstmrep.lstm.default(*Inputs.from_flat(flat, counts), *rest)
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
        counts, _, reverse, cell, backend, _ = ctx.static
        needs = asked(ctx.needs_input_grad, counts)
        static = (counts, reverse, cell, backend, needs)
        h, gates, c, *flat = ctx.saved_tensors
        made = LSTMTransformBackward.apply(static, *grads[:3], h, gates, c, *flat)
        return None, *in_flat_order(place(made, needs, Inputs.from_flat(flat, counts)))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise forward_mode_error()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], static: Any, *flat: Any) -> tuple[Any, Any]:
        counts, steps, reverse, *rest = static
        size = info.batch_size
        many = _fold_inputs(flat, in_dims[1:], size, counts)
        out = LSTMTransform.apply((many.counts, steps, list(reverse) * size, *rest), *many.flat())
        return tuple(_unfold(t, size) for t in out), (0,) * len(out)


class LSTMTransformBackward(torch.autograd.Function):
    """The backward op with a vmap rule. Its own derivative raises.

    ``apply(static, grad_h, grad_h_n, grad_c_n, h, gates, c, *inputs.flat())`` -> the gradients asked for.
    """

    @staticmethod
    def forward(static: Any, *tensors: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        counts, *rest = static
        i = Inputs.from_flat(tensors[_SAVED:], counts)
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
        counts, reverse, cell, backend, needs = static
        size = info.batch_size
        dims = in_dims[1:]
        saved = [_fold(t, d, size) for t, d in zip(tensors[:_SAVED], dims[:_SAVED], strict=True)]
        many = _fold_inputs(tensors[_SAVED:], dims[_SAVED:], size, counts)
        folded = (many.counts, list(reverse) * size, cell, backend, needs)
        given = iter(LSTMTransformBackward.apply(folded, *saved, *many.flat()))
        out: list[Tensor] = []
        if needs[X]:
            d_x = _unfold(next(given), size)  # [V, N, T, B, I]
            shared = tensors[_SAVED].dim() - (dims[_SAVED] is not None) == 3
            out.append(d_x.sum(1) if shared else d_x)
        if needs[W_IH]:
            group, n = [next(given) for _ in many.w_ih], counts[0]
            out += [torch.stack(group[k::n]) for k in range(n)]
        if needs[W_HH]:
            d_w_hh, n = next(given), counts[1]
            shape = d_w_hh.shape[-2:]
            out.append(d_w_hh.view(size, *shape) if n == 1 else d_w_hh.view(size, n, *shape))
        if needs[BIAS] or needs[PEEPHOLE]:
            vectors = next(given)
            each = counts[1] * many.w_hh[0].shape[1]
            at = 4 * size * each  # the biases of all samples, then the peepholes, if any
            parts = [vectors[:at].view(size, 4 * each)]
            parts += [vectors[at:].view(size, 3 * each)] if many.peephole else []
            out.append(torch.cat(parts, 1))
        for k, place_of in ((H0, 1), (C0, 2)):
            if needs[k]:
                d_start = _unfold(next(given), size)  # [V, N, B, H]
                rows = tensors[_SAVED + place_of].movedim(dims[_SAVED + place_of] or 0, 0).shape[-3]
                out.append(d_start if d_start.shape[1] == rows else d_start.sum(1, keepdim=True))
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


def _fold_inputs(flat: tuple[Any, ...], dims: tuple[int | None, ...], size: int, counts: Counts) -> Inputs:
    """N recurrences to V*N. What a sample's recurrences share, x ``[T, B, I]`` or a start ``[1, B, H]``, all see."""
    n = counts[1]
    x, *starts, lengths = flat[:SINGLE]
    if x is not None:
        x = _front(x, dims[0], size)  # [V, T, B, I] or [V, N, T, B, I]
        if counts[0] and x.dim() == 4:
            x = x.unsqueeze(1).expand(-1, n, -1, -1, -1)
        x = x.flatten(0, 1)
    for k, start in enumerate(starts):
        if start is not None:
            starts[k] = _front(start, dims[1 + k], size).expand(-1, n, -1, -1).flatten(0, 1)
    lists = split([_repeat(flat[k], dims[k], size) for k in range(SINGLE, len(flat))], counts)
    w_ih, w_hh, bias, peephole = ([t for sample in zip(*group, strict=True) for t in sample] for group in lists)
    h0, c0 = starts
    return Inputs(x, w_ih, w_hh, bias, peephole, h0, c0, _fold(lengths, dims[SINGLE - 1], size))


def _repeat(w: Tensor, dim: int | None, size: int) -> list[Tensor]:
    """A matrix for each sample; one that is not mapped is repeated by reference."""
    return [w] * size if dim is None else list(w.unbind(dim))
