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

from lstmrep.backends.frame_loss import LOSSES


class Output(NamedTuple):
    """One kind of output: ``activation`` makes the frame from the head's numbers, ``loss`` sums over all frames."""

    activation: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    unit: str


def _identity(z: Tensor) -> Tensor:
    return z


OUTPUTS = {
    "bernoulli": Output(torch.sigmoid, LOSSES["bernoulli"], "nats"),
    "gaussian": Output(_identity, LOSSES["gaussian"], "half squared error"),
    "relu": Output(torch.relu, LOSSES["relu"], "half squared error"),
    "squash": Output(torch.sigmoid, LOSSES["squash"], "nats"),
}


def squash(x: Tensor, scale: float) -> Tensor:
    """2/(1 + exp(-scale*x)) - 1, which for scale = 2 is tanh(x): non-negative features into [0, 1)."""
    return torch.tanh(x * (0.5 * scale))
