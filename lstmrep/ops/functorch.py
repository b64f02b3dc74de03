"""The op under torch.func transforms: grad, vmap and their compositions.

A mapped dimension V becomes more recurrences side by side: N of them turn into V*N.  Weights travel as lists, so
weights that are not mapped are passed V times and never copied.  First derivatives only; with
``backend="reference"`` the op is plain torch operations and every transform works.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstmrep.ops.autograd import Saved, asked_gradients, forward_mode_error, spread


class LSTMTransform(torch.autograd.Function):
    """Like ``LSTMFunction``, in the form that functorch asks for.

    ``apply(x, bias, peephole, h0, c0, lengths, static, *w_ih, *w_hh)`` -> h, h_n, c_n, gates, c.
    """

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, bias, peephole, h0, c0, lengths, static, *weights = args
        steps, reverse, cell, backend, save, n_ih = static
        w_ih, w_hh = weights[:n_ih], weights[n_ih:]
        out: tuple[Tensor, ...] = torch.ops.lstmrep.lstm.default(
            x, w_ih, w_hh, bias, peephole, h0, c0, lengths, steps, reverse, cell, backend, save
        )
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, bias, peephole, h0, c0, lengths, static, *weights = inputs
        h, _, _, gates, c = output
        save, n_ih = static[-2:]
        ctx.mark_non_differentiable(gates, c)
        ctx.set_materialize_grads(False)
        ctx.static = static
        ctx.packed = Saved(n_ih)
        kept = gates if save == "all" else None
        ctx.save_for_backward(x, bias, peephole, h0, c0, lengths, h, kept, c, *weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        _, reverse, cell, backend, _, n_ih = ctx.static
        x, w_ih, w_hh, bias, peephole, h0, c0, lengths, h, gates, c = ctx.packed.unpack(ctx.saved_tensors)
        needs = asked_gradients(ctx.needs_input_grad, n_ih)
        static = (reverse, cell, backend, needs, n_ih)
        flat = LSTMTransformBackward.apply(
            *grads[:3], x, bias, peephole, h0, c0, lengths, h, gates, c, static, *w_ih, *w_hh
        )
        placed = spread(list(flat), needs, n_ih, len(w_hh))
        return placed[0], *placed[-4:], None, None, *placed[1:-4]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise forward_mode_error()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        tensors, static, weights = args[:6], args[6], args[7:]
        steps, reverse, cell, backend, save, n_ih = static
        n = len(weights) - n_ih
        x = _fold_x(tensors[0], in_dims[0], size, n, bool(n_ih))
        others = [_fold(t, d, size) for t, d in zip(tensors[1:], in_dims[1:6], strict=True)]
        w_ih = _fold_list(weights[:n_ih], in_dims[7 : 7 + n_ih], size)
        w_hh = _fold_list(weights[n_ih:], in_dims[7 + n_ih :], size)
        many = (steps, list(reverse) * size, cell, backend, save, len(w_ih))
        out = LSTMTransform.apply(x, *others, many, *w_ih, *w_hh)
        return tuple(_unfold(t, size) for t in out), (0,) * len(out)


class LSTMTransformBackward(torch.autograd.Function):
    """The backward op with a vmap rule. ``apply(grad_h, grad_h_n, grad_c_n, x, bias, peephole, h0, c0, lengths, h,
    gates, c, static, *w_ih, *w_hh)`` -> the gradients asked for. Its own derivative raises."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        grad_h, grad_h_n, grad_c_n, x, bias, peephole, h0, c0, lengths, h, gates, c, static, *weights = args
        reverse, cell, backend, needs, n_ih = static
        grads = (grad_h, grad_h_n, grad_c_n)
        inputs = (x, weights[:n_ih], weights[n_ih:], bias, peephole, h0, c0, lengths)
        op = torch.ops.lstmrep.lstm_backward.default
        return tuple(op(*grads, *inputs, h, gates, c, reverse, cell, backend, needs))

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
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        tensors, static, weights = args[:12], args[12], args[13:]
        reverse, cell, backend, needs, n_ih = static
        n = len(weights) - n_ih
        folded = [_fold(t, d, size) for t, d in zip(tensors, in_dims[:12], strict=True)]
        folded[3] = _fold_x(tensors[3], in_dims[3], size, n, bool(n_ih))
        w_ih = _fold_list(weights[:n_ih], in_dims[13 : 13 + n_ih], size)
        w_hh = _fold_list(weights[n_ih:], in_dims[13 + n_ih :], size)
        many = (list(reverse) * size, cell, backend, needs, len(w_ih))
        flat = LSTMTransformBackward.apply(*folded, many, *w_ih, *w_hh)
        placed = spread(list(flat), needs, len(w_ih), len(w_hh))
        d_x, lists, rest = placed[0], placed[1:-4], placed[-4:]
        out: list[Tensor] = []
        if d_x is not None:
            d_x = _unfold(d_x, size)  # [V, N, T, B, I]
            shared = tensors[3].dim() - (in_dims[3] is not None) == 3
            out.append(d_x.sum(1) if shared else d_x)
        for group, count in ((lists[: len(w_ih)], n_ih), (lists[len(w_ih) :], n)):
            if group and group[0] is not None:
                out += [torch.stack([g for g in group[k::count] if g is not None]) for k in range(count)]
        out += [_unfold(g, size) for g in rest if g is not None]
        return tuple(out), (0,) * len(out)


def _front(t: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension first; a tensor that is not mapped is seen V times, without a copy."""
    return t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def _fold(t: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """``[N, ...]`` to ``[V*N, ...]``."""
    return None if t is None else _front(t, dim, size).flatten(0, 1)


def _unfold(t: Tensor, size: int) -> Tensor:
    """``[V*N, ...]`` to ``[V, N, ...]``."""
    made: Tensor = t.unflatten(0, (size, -1))
    return made


def _fold_x(x: Tensor | None, dim: int | None, size: int, n: int, has_weight: bool) -> Tensor | None:
    """x to ``[V*N, T, B, I]``; a sample's shared ``[T, B, I]`` is seen by each of its N recurrences."""
    if x is None:
        return None
    front = _front(x, dim, size)  # [V, T, B, I] or [V, N, T, B, I]
    if has_weight and front.dim() == 4:
        front = front.unsqueeze(1).expand(-1, n, -1, -1, -1)
    return front.flatten(0, 1)


def _fold_list(weights: tuple[Tensor, ...], dims: tuple[int | None, ...], size: int) -> list[Tensor]:
    """N matrices to V*N, sample by sample; one that is not mapped is repeated by reference."""
    return [w if d is None else w.select(d, v) for v in range(size) for w, d in zip(weights, dims, strict=True)]
