"""What a decoder's head means: from its numbers to a frame, and the loss of a frame.

Losses are summed over a frame's values and averaged over batch and frames: nats for ``bernoulli`` and ``squash``, half
the squared error for ``gaussian`` and ``relu``, as the paper and its released code report them. The cross-entropy is
formed from the logits, so no probability is ever clamped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Output(NamedTuple):
    """One kind of output: ``activation`` makes the frame from the head's numbers, ``loss`` sums over all frames."""

    activation: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    unit: str


def _cross_entropy(z: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z, target, reduction="sum")


def _half_squared(z: Tensor, target: Tensor) -> Tensor:
    return 0.5 * (z - target).square().sum()


def _half_squared_rectified(z: Tensor, target: Tensor) -> Tensor:
    return _half_squared(z.relu(), target)


def _identity(z: Tensor) -> Tensor:
    return z


OUTPUTS = {
    "bernoulli": Output(torch.sigmoid, _cross_entropy, "nats"),
    "gaussian": Output(_identity, _half_squared, "half squared error"),
    "relu": Output(torch.relu, _half_squared_rectified, "half squared error"),
    "squash": Output(torch.sigmoid, _cross_entropy, "nats"),
}


def squash(x: Tensor, scale: float) -> Tensor:
    """2/(1 + exp(-scale*x)) - 1, which for scale = 2 is tanh(x): non-negative features into [0, 1)."""
    return torch.tanh(x * (0.5 * scale))


def frame_loss(kind: str, z: Tensor, target: Tensor) -> Tensor:
    """Mean loss of a frame.

    Args:
        kind: a key of ``OUTPUTS``.
        z: the head's numbers ``[T, B, D]``; low precision is widened first.
        target: frames ``[T, B, D]``.

    Returns:
        A scalar, float32 (float64 for float64).
    """
    wide = torch.float64 if z.dtype == torch.float64 else torch.float32
    return OUTPUTS[kind].loss(z.to(wide), target.to(wide)) / (z.shape[0] * z.shape[1])
