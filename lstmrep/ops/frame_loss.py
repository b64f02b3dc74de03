"""``lstmrep::frame_loss``: heads of decoders and the loss of their frames as one differentiable op.

The heads' products are the library's; one launch adds the biases, reads the true frames where they lie and forms all
losses, and one launch of the backward pass forms the gradient of the heads' numbers and of the biases.  Where no such
kernel can run the op is plain torch operations; callers then rather use those themselves (``runs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lstmrep import env
from lstmrep.backends import frame_loss as kernel
from lstmrep.backends import memory
from lstmrep.backends.frame_loss import LOSSES, MOST_HEADS, Head, Told, mean_loss
from lstmrep.ops import autocast
from lstmrep.ops.plans import cuda_runs
from lstmrep.ops.registration import IMPLEMENTATIONS
from lstmrep.ops.schema import LIBRARY

_WHAT = "SymInt[] first, int[] step, SymInt[] count, float[] weights, str kind"
LIBRARY.define(
    f"frame_loss(Tensor h, Tensor[] weight, Tensor[] bias, Tensor frames, {_WHAT})"
    " -> (Tensor total, Tensor losses, Tensor z)"
)
# Returns, each where ``needs`` asks for it: h; weight [N, D, H]; bias [N, D].
LIBRARY.define(
    "frame_loss_backward(Tensor? grad_total, Tensor? grad_losses, Tensor? grad_z, Tensor h, Tensor[] weight,"
    f" Tensor[] bias, Tensor frames, Tensor z, {_WHAT}, bool[] needs) -> Tensor[]"
)
_TENSORS, _STATIC = 4, 5  # tensor arguments of the op, the others


def runs(like: Tensor, backend: str) -> bool:
    """Whether the kernel would run for tensors like this one, under this choice of a backend."""
    if like.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    if backend == "auto":
        backend = env.backend()
    return backend in ("auto", "cuda") and cuda_runs(like.device.type, like.device.index or 0)


def frame_loss(
    h: Tensor, weight: list[Tensor], bias: list[Tensor], frames: Tensor, heads: Sequence[Head], kind: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear heads on decoders' states, and the loss of the frames that they tell.

    Args:
        h: ``[N, T, B, H]``, states of N decoders.
        weight: N of ``[D, H]`` in h's dtype. Matrices side by side in memory take one product.
        bias: N of ``[D]``, all in h's dtype or all in float32.
        frames: the clip ``[F, B, D]`` in h's dtype or float32; any strides. It gets no gradient.
        heads: which frames each head tells, and what its loss counts in the total.
        kind: ``"bernoulli"`` | ``"gaussian"`` | ``"relu"`` | ``"squash"``, see ``lstmrep.backends.frame_loss``.

    Returns:
        The weighted sum of the losses ``[]`` and the losses ``[N]``, each summed over a frame's values and averaged
        over batch and frames, in float32 (float64 for float64); and the heads' numbers z ``[N, T, B, D]``, of which
        the first ``frames`` of a head are told, the others undefined.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.
    """
    static = _static(heads, kind)
    if torch.compiler.is_compiling():
        made: tuple[Tensor, Tensor, Tensor] = torch.ops.lstmrep.frame_loss(h, weight, bias, frames, *static)
        return made
    if torch.is_grad_enabled() and any(t.requires_grad for t in (h, frames, *weight, *bias)):
        made = FrameLossFunction.apply(static, h, frames, *weight, *bias)
        return made
    with torch._C._AutoDispatchBelowAutograd():
        made = torch.ops.lstmrep.frame_loss.default(h, weight, bias, frames, *static)
    return made


def _static(heads: Sequence[Head], kind: str) -> tuple[Any, ...]:
    first, step, count, weights = (list(each) for each in zip(*heads, strict=True))
    return first, step, count, weights, kind


def _heads(static: tuple[Any, ...]) -> tuple[list[Head], str]:
    *columns, kind = static
    return [Head(*row) for row in zip(*columns, strict=True)], kind


def _check(h: Tensor, weight: list[Tensor], bias: list[Tensor], frames: Tensor, static: tuple[Any, ...]) -> None:
    """Raise for what the kernel could not read, or would read wrongly."""
    heads, kind = _heads(static)
    who = "lstmrep.ops.frame_loss"
    if kind not in LOSSES:
        raise ValueError(f"{who}: argument 'kind' is {kind!r}, expected one of {', '.join(LOSSES)}.")
    if h.dim() != 4 or not 1 <= h.shape[0] <= MOST_HEADS:
        raise ValueError(
            f"{who}: argument 'h' has shape {tuple(h.shape)}, expected [N, T, B, H], N up to {MOST_HEADS}."
        )
    n, t, b, width = h.shape
    d = frames.shape[-1]
    if frames.dim() != 3 or frames.shape[1] != b or not b:
        raise ValueError(
            f"{who}: argument 'frames' has shape {tuple(frames.shape)}, expected [F, B, D] with B = {b}, 1 or more."
        )
    counts = {"weight": len(weight), "bias": len(bias), "heads": len(heads)}
    for name, count in counts.items():
        if count != n:
            raise ValueError(f"{who}: argument '{name}' has {count} entries, expected N = {n}.")
    for name, given, shape in (("weight", weight, (d, width)), ("bias", bias, (d,))):
        for one in given:
            if tuple(one.shape) != shape:
                raise ValueError(f"{who}: argument '{name}' has shape {tuple(one.shape)}, expected {shape}.")
    wide = torch.float64 if h.dtype == torch.float64 else torch.float32
    kinds = {"weight": {h.dtype}, "bias": {h.dtype} if bias[0].dtype == h.dtype else {wide}, "frames": {h.dtype, wide}}
    for name, tensors in (("weight", weight), ("bias", bias), ("frames", [frames])):
        for one in tensors:
            if one.dtype not in kinds[name] or one.device != h.device:
                raise TypeError(
                    f"{who}: argument '{name}' is {one.dtype} on {one.device}, beside h in {h.dtype} on {h.device}."
                )
    for head in heads:
        ends = (head.first, head.first + head.step * (head.frames - 1))
        if head.step not in (1, -1) or not 1 <= head.frames <= t or not all(0 <= f < frames.shape[0] for f in ends):
            raise ValueError(
                f"{who}: argument 'heads' has {head}, which {frames.shape[0]} frames and T = {t} do not hold."
            )


def side_by_side(tensors: Sequence[Tensor]) -> Tensor | None:
    """Dense tensors of one shape as one of one more dimension, if they lie one after the other in memory."""
    one = tensors[0]
    for k, t in enumerate(tensors):
        follows = t.storage_offset() == one.storage_offset() + k * one.numel()
        same = t.untyped_storage().data_ptr() == one.untyped_storage().data_ptr()
        if not (t.is_contiguous() and same and follows):
            return None
    return one.as_strided((len(tensors), *one.shape), (one.numel(), *one.stride()), one.storage_offset())


def _products(a: Tensor, weight: list[Tensor], transpose: bool) -> Tensor:
    """``a[n] @ weight[n]`` (or its transpose) for a ``[N, T, B, K]``; one product where the matrices allow it."""
    rows = a.flatten(1, 2)
    whole = side_by_side(weight)
    if whole is not None:
        return torch.bmm(rows, whole.transpose(1, 2) if transpose else whole).view(*a.shape[:3], -1)
    width = weight[0].shape[0 if transpose else 1]
    out = memory.empty((*a.shape[:3], width), a.dtype, a.device)
    for n, w in enumerate(weight):
        torch.mm(rows[n], w.t() if transpose else w, out=out[n].view(-1, width))
    return out


def _plain(
    h: Tensor, weight: list[Tensor], bias: list[Tensor], frames: Tensor, static: tuple[Any, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The op by plain differentiable torch operations."""
    heads, kind = _heads(static)
    made = [x.flatten(0, 1) @ w.t() + v for x, w, v in zip(h, weight, bias, strict=True)]
    z = torch.stack(made).to(h.dtype).view(*h.shape[:3], -1)
    losses = [mean_loss(kind, z[n, : head.frames], head.of(frames)) for n, head in enumerate(heads)]
    total = torch.stack([head.weight * loss for head, loss in zip(heads, losses, strict=True)]).sum()
    return total, torch.stack(losses), z


def _frame_loss(
    h: Tensor, weight: list[Tensor], bias: list[Tensor], frames: Tensor, *static: Any
) -> tuple[Tensor, ...]:
    _check(h, weight, bias, frames, static)
    with autocast.off(h):
        if not runs(h, "auto"):
            return _plain(h, weight, bias, frames, static)
        heads, kind = _heads(static)
        z = _products(h.contiguous(), [w.contiguous() for w in weight], True)
        told = Told(heads, kind, [v.contiguous() for v in bias], _dense_rows(frames), z)
        return *kernel.forward(told), z


def _dense_rows(frames: Tensor) -> Tensor:
    return frames if frames.stride(-1) == 1 or frames.shape[-1] == 1 else frames.contiguous()


def _frame_loss_backward(
    grad_total: Tensor | None,
    grad_losses: Tensor | None,
    grad_z: Tensor | None,
    h: Tensor,
    weight: list[Tensor],
    bias: list[Tensor],
    frames: Tensor,
    z: Tensor,
    *static_and_needs: Any,
) -> list[Tensor]:
    *static, needs = static_and_needs
    _check(h, weight, bias, frames, tuple(static))
    heads, kind = _heads(tuple(static))
    with autocast.off(h):
        if not runs(h, "auto"):
            grads = (grad_total, grad_losses, grad_z)
            placed = _differentiable_gradients(grads, h, weight, bias, frames, tuple(static), needs, False)
            return [g[0] if k == 0 else torch.stack(g) for k, g in enumerate(placed) if needs[k]]  # type: ignore[misc, arg-type]
        told = Told(heads, kind, [v.contiguous() for v in bias], _dense_rows(frames), z.contiguous())
        given = [None if g is None else g.contiguous() for g in (grad_total, grad_losses, grad_z)]
        d_z, d_bias = kernel.backward(told, given[0], given[1], given[2], needs[2])
        out = []
        if needs[0]:
            out.append(_products(d_z, [w.contiguous() for w in weight], False))
        if needs[1]:
            out.append(torch.bmm(d_z.flatten(1, 2).transpose(1, 2), h.contiguous().flatten(1, 2)))
        return [*out, d_bias] if d_bias is not None else out


def _differentiable_gradients(
    grads: Sequence[Tensor | None],
    h: Tensor,
    weight: list[Tensor],
    bias: list[Tensor],
    frames: Tensor,
    static: tuple[Any, ...],
    needs: list[bool],
    create_graph: bool,
) -> list[list[Tensor | None]]:
    """Gradients of h, the weights and the biases through the plain operations, lists at each."""
    with torch.enable_grad():
        # A view each, so that a tensor passed twice has two places to collect its gradient.
        places = [
            [t.view_as(t) if create_graph else t.detach().requires_grad_() for t in tensors]
            for tensors in ([h], weight, bias)
        ]
        outputs = _plain(places[0][0], places[1], places[2], frames, static)
        wanted = [t for tensors, need in zip(places, needs, strict=True) if need for t in tensors]
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        made = torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=create_graph, allow_unused=True
        )
    found = iter([torch.zeros_like(w) if g is None else g for g, w in zip(made, wanted, strict=True)])
    return [[next(found) if need else None for _ in tensors] for tensors, need in zip(places, needs, strict=True)]


def _gradients(
    grads: Sequence[Tensor | None], tensors: tuple[Any, ...], static: tuple[Any, ...], needs: list[bool]
) -> list[list[Tensor | None]]:
    """Gradients of h, the weights and the biases, lists at each; views, no copies. tensors: the op's, then z."""
    h, weight, bias, frames, z = tensors
    nothing: list[list[Tensor | None]] = [[None], [None] * len(weight), [None] * len(bias)]
    if not any(needs) or all(g is None for g in grads):
        return nothing
    if torch.is_grad_enabled():  # create_graph=True: the result must itself be differentiable
        return _differentiable_gradients(grads, h, weight, bias, frames, static, needs, True)
    made = iter(torch.ops.lstmrep.frame_loss_backward(*grads, h, weight, bias, frames, z, *static, needs))
    return [
        ([next(made)] if k == 0 else list(next(made).unbind(0))) if need else nothing[k] for k, need in enumerate(needs)
    ]


def _refuse_frames() -> RuntimeError:
    return RuntimeError(
        "lstmrep::frame_loss: argument 'frames' asks for a gradient, and gets none; pass frames.detach()."
    )


class FrameLossFunction(torch.autograd.Function):
    """Eager autograd. ``apply(static, h, frames, *weight, *bias)`` -> total, losses, z."""

    @staticmethod
    def forward(ctx: Any, static: tuple[Any, ...], *flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]  # noqa: D102
        h, frames, *vectors = flat
        if frames.requires_grad:
            raise _refuse_frames()
        n = len(vectors) // 2
        with torch._C._AutoDispatchBelowAutograd():
            total, losses, z = torch.ops.lstmrep.frame_loss.default(h, vectors[:n], vectors[n:], frames, *static)
        ctx.set_materialize_grads(False)
        ctx.static = static
        ctx.save_for_backward(*flat, z)
        return total, losses, z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # noqa: D102
        h, frames, *vectors, z = ctx.saved_tensors
        n = len(vectors) // 2
        needed = ctx.needs_input_grad[1:]
        needs = [needed[0], any(needed[2 : 2 + n]), any(needed[2 + n :])]
        d_h, d_weight, d_bias = _gradients(grads, (h, vectors[:n], vectors[n:], frames, z), ctx.static, needs)
        return None, *d_h, None, *d_weight, *d_bias


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    h, weight, bias, frames = inputs[:_TENSORS]
    if frames.requires_grad:
        raise _refuse_frames()
    ctx.set_materialize_grads(False)
    ctx.static = inputs[_TENSORS:]
    ctx.needs = [h.requires_grad, any(w.requires_grad for w in weight), any(v.requires_grad for v in bias)]
    ctx.save_for_backward(h, frames, output[2], *weight, *bias)


def _registered_backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    h, frames, z, *vectors = ctx.saved_tensors
    n = len(vectors) // 2
    d_h, d_weight, d_bias = _gradients(grads, (h, vectors[:n], vectors[n:], frames, z), ctx.static, ctx.needs)
    return *d_h, d_weight, d_bias, None, *[None] * _STATIC


def _fake(h: Tensor, weight: list[Tensor], bias: list[Tensor], frames: Tensor, *static: Any) -> tuple[Tensor, ...]:
    _check(h, weight, bias, frames, static)
    wide = torch.float64 if h.dtype == torch.float64 else torch.float32
    losses = h.new_empty((h.shape[0],), dtype=wide)
    return h.new_empty((), dtype=wide), losses, h.new_empty((*h.shape[:3], frames.shape[2]))


def _fake_backward(*arguments: Any) -> list[Tensor]:
    h, weight, bias = arguments[3:6]
    needs = arguments[-1]
    n, (d, width) = len(weight), weight[0].shape
    shapes = [(h.shape, h.dtype), ((n, d, width), h.dtype), ((n, d), bias[0].dtype)]
    return [h.new_empty(shape, dtype=dtype) for (shape, dtype), need in zip(shapes, needs, strict=True) if need]


IMPLEMENTATIONS |= {"frame_loss": _frame_loss, "frame_loss_backward": _frame_loss_backward}
LIBRARY.impl("frame_loss", _frame_loss, "CompositeExplicitAutograd")
LIBRARY.impl("frame_loss_backward", _frame_loss_backward, "CompositeExplicitAutograd")
torch.library.register_fake("lstmrep::frame_loss", _fake, lib=LIBRARY)
torch.library.register_fake("lstmrep::frame_loss_backward", _fake_backward, lib=LIBRARY)
torch.library.register_autograd("lstmrep::frame_loss", _registered_backward, setup_context=_setup_context, lib=LIBRARY)
