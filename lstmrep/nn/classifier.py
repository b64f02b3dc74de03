"""The action classifier of Srivastava, Mansimov and Salakhutdinov (2015), section 3.3: an LSTM with a softmax at every
step, whose probabilities are averaged over the steps. Its LSTM can start from a composite model's encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmrep.nn import presets
from lstmrep.nn.checks import check_frames, check_sizes, choice, count, option, probability
from lstmrep.nn.composite import CompositeModel
from lstmrep.nn.init import Scheme, initialize
from lstmrep.nn.pretrained import Pretrained
from lstmrep.nn.stack import Stack
from lstmrep.ops.validate import CELLS
from lstmrep.plan import BACKENDS, Problem

POOLINGS = ("mean", "last")


@dataclass(frozen=True)
class ClassifierConfig:
    """The arguments of :class:`ActionClassifier`, as ``model.config`` keeps and ``config.json`` holds them."""

    input_size: int
    hidden_size: int
    num_classes: int
    num_layers: int = 1
    dropout: float = 0.0
    pooling: str = "mean"
    peephole: bool = True
    cell: str = "tanh"
    batch_first: bool = True
    recompute: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        who = "lstmrep.ActionClassifier"
        check_sizes(who, self.input_size, self.hidden_size, self.num_layers)
        count(who, "num_classes", self.num_classes, 2)
        probability(who, "dropout", self.dropout)
        choice(who, "pooling", self.pooling, POOLINGS)
        for name in ("peephole", "batch_first", "recompute"):
            option(who, name, getattr(self, name))
        choice(who, "cell", self.cell, CELLS)
        choice(who, "backend", self.backend, BACKENDS)


@dataclass
class ClassifierOutput:
    """What a call returns, by name or by position: ``loss`` (none without labels), ``logits [B, T, K]`` (``[T, B, K]``
    without batch_first) and ``probabilities [B, K]``, the mean of the steps' softmax, or the last one's."""

    loss: Tensor | None
    logits: Tensor
    probabilities: Tensor

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key if isinstance(key, str) else fields(self)[key].name)


def classified(who: str, logits: Tensor, labels: Tensor | None, batch_first: bool, pooling: str) -> ClassifierOutput:
    """What a classifier returns: each step's softmax averaged, and the loss, in float32 at least.

    Args:
        who: the class, for messages.
        logits: ``[T, B, K]``.
        labels: int64 ``[B]``, or none.
        batch_first: whether logits are returned as ``[B, T, K]``.
        pooling: ``"mean"``: every step counts; ``"last"``: the last one alone.
    """
    counted = logits if pooling == "mean" else logits[-1:]
    wide = counted.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    loss = None
    if labels is not None:
        _check_labels(f"lstmrep.{who}", labels, wide.shape[1])
        loss = functional.cross_entropy(wide.flatten(0, 1), labels.repeat(wide.shape[0]))
    return ClassifierOutput(loss, logits.transpose(0, 1) if batch_first else logits, wide.softmax(-1).mean(0))


def _check_labels(who: str, labels: Tensor, batch: int) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"{who}: argument 'labels' is {labels.dtype}, expected torch.int64; pass labels.long().")
    if tuple(labels.shape) != (batch,):
        raise ValueError(f"{who}: argument 'labels' has shape {tuple(labels.shape)}, expected [B] = {(batch,)}.")


class ActionClassifier(Pretrained, nn.Module):
    """LSTM layers and a softmax at every step; the clip's probabilities are the mean over steps.

    Args:
        input_size: D, values of a frame (4096 for fc6 features); frames of any shape with D values are taken.
        hidden_size: H, units of every layer.
        num_classes: K, classes.
        num_layers: L, stacked layers. Default 1.
        dropout: probability of dropping a value between layers, the softmax being the last, in training; never
            through time. Default 0.
        pooling: ``"mean"``, the paper's: the clip's probabilities are the mean over steps, and every step is trained;
            ``"last"``: the last step alone, for labels that hold at the end of a clip. Default ``"mean"``.
        peephole, cell, batch_first, recompute, backend, init, device, dtype: as for ``lstmrep.CompositeModel``.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it.

    Source: Srivastava, Mansimov, Salakhutdinov 2015, section 3.3; dropout: Zaremba, Sutskever, Vinyals 2014.

    Example:
        >>> classifier = ActionClassifier(16, 32, num_classes=5)
        >>> out = classifier(torch.rand(3, 7, 16), torch.tensor([0, 4, 2]))
        >>> tuple(out.logits.shape), tuple(out.probabilities.shape)
        ((3, 7, 5), (3, 5))
    """

    config_class = ClassifierConfig
    config: ClassifierConfig

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        pooling: str = "mean",
        peephole: bool = True,
        cell: str = "tanh",
        batch_first: bool = True,
        recompute: bool = False,
        backend: str = "auto",
        init: Scheme | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = ClassifierConfig(
            input_size=input_size,
            hidden_size=hidden_size,
            num_classes=num_classes,
            num_layers=num_layers,
            dropout=dropout,
            pooling=pooling,
            peephole=peephole,
            cell=cell,
            batch_first=batch_first,
            recompute=recompute,
            backend=backend,
        )
        self.init = init
        self.lstm = Stack(
            input_size,
            hidden_size,
            num_layers,
            peephole=peephole,
            cell=cell,
            recompute=recompute,
            backend=backend,
            dropout=float(dropout),
            init=init,
            device=device,
            dtype=dtype,
        )
        self.head = nn.Linear(hidden_size, num_classes, device=device, dtype=dtype)
        initialize(self.head, init, default_scale=1.0 / math.sqrt(hidden_size), prefix="head_")

    @classmethod
    def from_preset(cls, name: str, **options: Any) -> ActionClassifier:
        """A classifier by the name of a configuration, a key of ``lstmrep.nn.presets.CLASSIFIER``."""
        return cls(**presets.arguments(presets.CLASSIFIER, name, options))

    @property
    def batch_first(self) -> bool:
        """Whether frames are ``[B, T, *frame]``."""
        return self.config.batch_first

    def forward(self, frames: Tensor, labels: Tensor | None = None) -> ClassifierOutput:
        """Classify clips.

        Args:
            frames: ``[B, T, *frame]`` (``[T, B, *frame]`` without batch_first).
            labels: ``[B]`` int64 from 0 to K-1; with them the loss is formed: the cross-entropy of the clip's label at
                every step that counts, mean over batch and steps.

        Returns:
            A :class:`ClassifierOutput`.
        """
        c = self.config
        check_frames("ActionClassifier", "frames", frames, c.input_size, 1, self.lstm.weight("weight_hh", 0), c)
        x = frames.flatten(2)
        h, _ = self.lstm(x.transpose(0, 1) if c.batch_first else x)
        if c.dropout and self.training:
            h = functional.dropout(h, c.dropout, training=True)
        return classified("ActionClassifier", self.head(h), labels, c.batch_first, c.pooling)

    @torch.no_grad()
    def predict(self, frames: Tensor) -> Tensor:
        """The most probable class of each clip, ``[B]`` int64."""
        return self(frames).probabilities.argmax(-1)  # type: ignore[no-any-return]

    def load_encoder(self, source: CompositeModel, *, freeze: bool = False) -> ActionClassifier:
        """Start the LSTM from a composite model's encoder: all layers, biases and peepholes are copied.

        Args:
            source: a model whose encoder has this classifier's sizes, depth and peepholes.
            freeze: train the head alone: the LSTM's parameters ask for no gradient.

        Returns:
            The classifier itself.

        Raises:
            ValueError: a parameter is missing or has another shape; the message names it. Nothing is copied then.
        """
        if not isinstance(source, CompositeModel):
            raise TypeError(
                f"lstmrep.ActionClassifier.load_encoder: argument 'source' is a {type(source).__name__}, expected a "
                "lstmrep.CompositeModel."
            )
        own, given = self.lstm.state_dict(), source.encoder.state_dict()
        for name in sorted(set(own) | set(given)):
            if name not in own or name not in given or own[name].shape != given[name].shape:
                sizes = [tuple(d[name].shape) if name in d else "absent" for d in (given, own)]
                raise ValueError(
                    f"lstmrep.ActionClassifier.load_encoder: 'encoder.{name}' is {sizes[0]}, the classifier's is "
                    f"{sizes[1]}; build the classifier with the encoder's sizes, num_layers and peephole."
                )
        if source.config.cell != self.config.cell:
            raise ValueError(
                f"lstmrep.ActionClassifier.load_encoder: the encoder's cell is {source.config.cell!r}, the "
                f"classifier's {self.config.cell!r}; build the classifier with cell={source.config.cell!r}."
            )
        self.lstm.load_state_dict(given)
        self.lstm.requires_grad_(not freeze)
        return self

    def problems(self, batch: int, steps: int) -> list[Problem]:
        """What each layer asks of the op; for ``lstmrep.explain``."""
        return self.lstm.problems(batch, steps)
