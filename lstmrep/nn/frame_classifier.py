"""The single-frame baseline of the paper's section 3.3: softmax regression on every frame by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lstmrep.nn.checks import check_frames, choice, count, option
from lstmrep.nn.classifier import POOLINGS, ClassifierOutput, classified
from lstmrep.nn.init import Scheme, initialize
from lstmrep.nn.pretrained import Pretrained


@dataclass(frozen=True)
class FrameClassifierConfig:
    """The arguments of :class:`FrameClassifier`, as ``model.config`` keeps and ``config.json`` holds them."""

    input_size: int
    num_classes: int
    pooling: str = "mean"
    batch_first: bool = True

    def __post_init__(self) -> None:
        count("lstmrep.FrameClassifier", "input_size", self.input_size, 1)
        count("lstmrep.FrameClassifier", "num_classes", self.num_classes, 2)
        choice("lstmrep.FrameClassifier", "pooling", self.pooling, POOLINGS)
        option("lstmrep.FrameClassifier", "batch_first", self.batch_first)


class FrameClassifier(Pretrained, nn.Module):
    """A softmax of every frame by itself; a clip's probabilities are the mean over its frames.

    What an :class:`lstmrep.ActionClassifier` gains over it comes from the order of the frames.

    Args:
        input_size: D, values of a frame; frames of any shape with D values are taken.
        num_classes: K, classes.
        pooling: ``"mean"`` over frames, or ``"last"``: of the last frame alone. Default ``"mean"``.
        batch_first, init, device, dtype: as for ``lstmrep.CompositeModel``.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.

    Source: Srivastava, Mansimov, Salakhutdinov 2015, section 3.3, "single frame".

    Example:
        >>> out = FrameClassifier(16, num_classes=5)(torch.rand(3, 7, 16), torch.tensor([0, 4, 2]))
        >>> tuple(out.logits.shape), tuple(out.probabilities.shape)
        ((3, 7, 5), (3, 5))
    """

    config_class = FrameClassifierConfig
    config: FrameClassifierConfig

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        *,
        pooling: str = "mean",
        batch_first: bool = True,
        init: Scheme | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = FrameClassifierConfig(input_size, num_classes, pooling, batch_first)
        self.head = nn.Linear(input_size, num_classes, device=device, dtype=dtype)
        initialize(self.head, init, default_scale=1.0 / math.sqrt(input_size), prefix="head_")

    @property
    def batch_first(self) -> bool:
        """Whether frames are ``[B, T, *frame]``."""
        return self.config.batch_first

    def forward(self, frames: Tensor, labels: Tensor | None = None) -> ClassifierOutput:
        """Classify clips; arguments and result as of ``lstmrep.ActionClassifier``."""
        c = self.config
        weight: Any = self.head.weight
        check_frames("FrameClassifier", "frames", frames, c.input_size, 1, weight, c)
        x = frames.flatten(2)
        logits = self.head(x.transpose(0, 1) if c.batch_first else x)
        return classified("FrameClassifier", logits, labels, c.batch_first, c.pooling)

    @torch.no_grad()
    def predict(self, frames: Tensor) -> Tensor:
        """The most probable class of each clip, ``[B]`` int64."""
        return self(frames).probabilities.argmax(-1)  # type: ignore[no-any-return]
