"""Losses of frames: their formulas in plain torch operations, and the adapter of the kernel (csrc/cuda/frame_loss).

A head's numbers are logits (``"bernoulli"``, and ``"squash"`` beside squashed frames), a frame (``"gaussian"``), or a
frame before it is rectified (``"relu"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lstmrep.backends import cuda, memory
from lstmrep.backends.cpu import address
from lstmrep.backends.tensors import DTYPE_CODE

MOST_HEADS = 8  # of one launch


def _cross_entropy(z: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z, target, reduction="sum")


def _half_squared(z: Tensor, target: Tensor) -> Tensor:
    return 0.5 * (z - target).square().sum()


def _half_squared_rectified(z: Tensor, target: Tensor) -> Tensor:
    return _half_squared(z.relu(), target)


# By kind: the sum over all frames of ``loss(z, target)``.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bernoulli": _cross_entropy,
    "gaussian": _half_squared,
    "relu": _half_squared_rectified,
    "squash": _cross_entropy,
}
_KIND_CODE = {"bernoulli": 0, "gaussian": 1, "relu": 2, "squash": 0}


class Head(NamedTuple):
    """What a head tells: ``frames`` frames of a clip, ``first + t * step`` at its step t; and its loss's weight."""

    first: int
    step: int
    frames: int
    weight: float

    def of(self, clip: Tensor) -> Tensor:
        """Its frames ``[frames, B, D]`` of a clip ``[F, B, D]``, in the order in which it tells them."""
        if self.step < 0:
            return clip[self.first - self.frames + 1 : self.first + 1].flip(0)
        return clip[self.first : self.first + self.frames]


def mean_loss(kind: str, z: Tensor, target: Tensor) -> Tensor:
    """Mean loss of a frame, by plain differentiable torch operations.

    Args:
        kind: a key of ``LOSSES``.
        z: the head's numbers ``[T, B, D]``; low precision is widened first.
        target: frames ``[T, B, D]``.

    Returns:
        A scalar, float32 (float64 for float64).
    """
    wide = torch.float64 if z.dtype == torch.float64 else torch.float32
    return LOSSES[kind](z.to(wide), target.to(wide)) / (z.shape[0] * z.shape[1])


@dataclass(slots=True)
class Told:
    """What both passes share. S is the I/O dtype."""

    heads: Sequence[Head]  # N
    kind: str
    bias: Sequence[Tensor]  # N of [D], S or float32
    frames: Tensor  # [F, B, D] S or float32, any strides with D dense
    z: Tensor  # [N, T, B, D] S


def _arguments(told: Told) -> tuple[object, ...]:
    """What both entries of the kernel start with."""
    _, t, b, d = told.z.shape
    frames = told.frames
    step, row = frames.stride(0), frames.stride(1)
    heads = [
        (address(bias), frames.data_ptr() + head.first * step * frames.element_size(), head.step * step, *head[2:])
        for head, bias in zip(told.heads, told.bias, strict=True)
    ]
    return (
        *cuda._stream(told.z.device),
        DTYPE_CODE[told.z.dtype],
        _KIND_CODE[told.kind],
        heads,
        t,
        b,
        d,
        told.bias[0].dtype == told.z.dtype,
        frames.dtype == told.z.dtype,
        row,
    )


def _scratch(told: Told, backward: bool) -> tuple[Tensor, Tensor]:
    """Parts of sums, and the words by which blocks find out who comes last."""
    parts, arrivals = cuda.kernels().cuda_frame_loss_scratch(*told.z.shape, backward)
    device = told.z.device
    return memory.empty((parts,), torch.float32, device), memory.empty((arrivals,), torch.int32, device)


def forward(told: Told) -> tuple[Tensor, Tensor]:
    """Add the biases to ``told.z``, which holds the heads' products, and form the losses.

    Returns:
        The weighted sum ``[]`` and each head's mean loss ``[N]``, float32.
    """
    device = told.z.device
    total = memory.empty((), torch.float32, device)
    losses = memory.empty((len(told.heads),), torch.float32, device)
    parts, arrivals = _scratch(told, False)
    outputs = (told.z, parts, arrivals, losses, total)
    cuda.kernels().cuda_frame_loss_forward(*_arguments(told), *map(address, outputs))
    return total, losses


def backward(
    told: Told, grad_total: Tensor | None, grad_losses: Tensor | None, grad_z: Tensor | None, needs_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the heads' numbers ``[N, T, B, D]`` S and, on request, of the biases ``[N, D]`` in their dtype."""
    n, _, _, d = told.z.shape
    d_z = memory.empty(tuple(told.z.shape), told.z.dtype, told.z.device)
    d_bias = parts = arrivals = None
    if needs_bias:
        d_bias = memory.empty((n, d), told.bias[0].dtype, told.z.device)
        parts, arrivals = _scratch(told, True)
    tensors = (told.z, grad_total, grad_losses, grad_z, d_z, parts, arrivals, d_bias)
    cuda.kernels().cuda_frame_loss_backward(*_arguments(told), *map(address, tensors))
    return d_z, d_bias
