"""Rows of a report: what each prediction of a batch is scored against, and by which numbers.

Used alike on a batch that a model has just predicted and on arrays read back from files, so that both give the same
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lstmrep.eval import baselines, metrics, perceptual

RECONSTRUCTION, FUTURE = "reconstruction", "future"
FREE, TEACHER = "model, free-running", "model, teacher-forced"
MEAN_PIXEL, MEAN_FRAME, COPY_LAST, LINEAR = "mean pixel", "mean frame", "copy last", "linear motion"
ENTROPY = "entropy of the targets"
# Rows whose predictions are frames as they are: zeros and ones for binary frames.
CERTAIN = (COPY_LAST, LINEAR)

CROSS_ENTROPY, HALF_SQUARED = "cross_entropy", "half_squared_error"
UNITS = {CROSS_ENTROPY: "nats/frame", HALF_SQUARED: "half SE/frame"}
FRAME_METRICS = ("mse", "mae", "ssim", "psnr")
# Those that a report has only when asked.
MORE_METRICS = ("lpips",)
# Defined for values in [0, 1] only.
UNIT_RANGE = ("ssim", "psnr", "lpips")

Values = dict[str, Tensor]
Scores = dict[tuple[str, str], Values]


@dataclass(frozen=True)
class Settings:
    """How a report is formed: the arguments of :func:`lstmrep.eval.evaluate` that change its numbers."""

    loss: str = CROSS_ENTROPY
    metrics: tuple[str, ...] = FRAME_METRICS
    clamp: float = 1e-10
    baseline_clamp: float = 1e-4
    ssim_range: float = 2.0

    def __post_init__(self) -> None:
        known = (*FRAME_METRICS, *MORE_METRICS)
        unknown = [name for name in self.metrics if name not in known]
        if unknown:
            raise ValueError(
                f"lstmrep.eval.evaluate: argument 'metrics' names {unknown[0]!r}, expected some of {', '.join(known)}."
            )


@dataclass
class Batch:
    """Predictions of some clips and what they are held against, float32 ``[B, frames, *frame]`` each.

    ``reconstruction`` and its teacher-forced twin are in the order in which they were decoded, the last input first.
    """

    inputs: Tensor
    trues: Tensor | None = None
    preds: Tensor | None = None
    preds_teacher: Tensor | None = None
    reconstruction: Tensor | None = None
    reconstruction_teacher: Tensor | None = None

    def arrays(self) -> dict[str, Tensor]:
        """What there is, by name."""
        return {name: t for name, t in vars(self).items() if t is not None}

    def predictions(self) -> Iterator[tuple[str, str, Tensor]]:
        """Head, row, prediction."""
        for head, row, made in (
            (RECONSTRUCTION, FREE, self.reconstruction),
            (RECONSTRUCTION, TEACHER, self.reconstruction_teacher),
            (FUTURE, FREE, self.preds),
            (FUTURE, TEACHER, self.preds_teacher),
        ):
            if made is not None:
                yield head, row, made

    def target(self, head: str) -> Tensor:
        """What the head should have made; the reconstruction's is the input turned around."""
        if head == RECONSTRUCTION:
            return self.inputs.flip(1)
        assert self.trues is not None
        return self.trues


@dataclass
class Scorer:
    """Scores batches, and keeps every clip's and frame's number."""

    settings: Settings
    mean: Tensor | None = None
    lpips_weights: str | Path | None = None
    scores: dict[tuple[str, str], dict[str, list[Tensor]]] = field(default_factory=dict)
    lowest: float = math.inf
    highest: float = -math.inf
    notes: dict[str, str] = field(default_factory=dict)
    clips: int = 0

    def add(self, batch: Batch) -> None:
        """Score the clips of a batch.

        Raises:
            ValueError: a prediction or a frame is not finite; the sentence says where.
        """
        for given in (batch.inputs, batch.trues):
            if given is not None and not given.isfinite().all():
                clip = int((~given.isfinite()).flatten(1).any(1).nonzero()[0])
                raise ValueError(
                    f"lstmrep.eval.evaluate: clip {self.clips + clip} holds values that are not finite; check the data."
                )
        targets: dict[str, Tensor] = {}
        for head, row, made in batch.predictions():
            self._finite(head, row, made)
            target = batch.target(head)[:, : made.shape[1]]
            # Free-running comes first and is never the shorter.
            targets.setdefault(head, target)
            self._keep(head, row, self._values(made, target, self.settings.clamp))
        for head, target in targets.items():
            self._range(target)
            for row, made in self._baselines(batch.inputs, target.shape[1]):
                clamp = self.settings.baseline_clamp if row in CERTAIN else self.settings.clamp
                self._keep(head, row, self._values(made, target, clamp))
            if self.settings.loss == CROSS_ENTROPY:
                self._keep(head, ENTROPY, {CROSS_ENTROPY: metrics.entropy(target)})
        self.clips += batch.inputs.shape[0]

    def rows(self) -> dict[tuple[str, str], dict[str, np.ndarray]]:
        """Every number, float64 ``[clips, frames]``, by (head, row) and metric."""
        dropped: tuple[str, ...] = ()
        if self.lowest < 0 or self.highest > 1:
            dropped = tuple(name for name in UNIT_RANGE if name in self.settings.metrics)
            if dropped:
                self.notes["range"] = (
                    f"{', '.join(dropped)}: left out, the targets reach from {self.lowest:.3g} to {self.highest:.3g} "
                    "and these are defined on [0, 1]"
                )
        return {
            key: {name: torch.cat(parts).cpu().numpy() for name, parts in values.items() if name not in dropped}
            for key, values in self.scores.items()
        }

    def _values(self, made: Tensor, target: Tensor, clamp: float) -> Values:
        s = self.settings
        values: Values = {
            s.loss: metrics.cross_entropy(made, target, clamp=clamp)
            if s.loss == CROSS_ENTROPY
            else metrics.half_squared_error(made, target)
        }
        ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "mse": metrics.mse,
            "mae": metrics.mae,
            "psnr": metrics.psnr,
            "ssim": lambda p, t: metrics.ssim(p, t, data_range=s.ssim_range),
            "lpips": lambda p, t: perceptual.lpips(p, t, weights=self.lpips_weights),
        }
        for name in s.metrics:
            if why := self._lacks(name, tuple(target.shape[2:])):
                self.notes[name] = f"{name}: left out, {why}"
                continue
            values[name] = ways[name](made, target)
        return values

    def _lacks(self, name: str, frame: tuple[int, ...]) -> str:
        """Why there is no such metric of these frames on this machine; empty if there is."""
        if name == "ssim":
            return metrics.ssim_needs(frame)
        if name == "lpips":
            return perceptual.lpips_needs(frame) or perceptual.lpips_missing(self.lpips_weights)
        return ""

    def _baselines(self, inputs: Tensor, steps: int) -> Iterator[tuple[str, Tensor]]:
        if self.mean is None:
            self.notes["mean"] = (
                f"{MEAN_PIXEL}, {MEAN_FRAME}: left out, pass mean=lstmrep.eval.mean_frame(training batches)"
            )
        else:
            if self.mean.shape != inputs.shape[2:]:
                raise ValueError(
                    f"lstmrep.eval.evaluate: argument 'mean' has the shape {tuple(self.mean.shape)}, frames have "
                    f"{tuple(inputs.shape[2:])}; pass lstmrep.eval.mean_frame(training batches)."
                )
            mean = self.mean.to(inputs)
            yield MEAN_PIXEL, baselines.constant(baselines.mean_pixel(mean), inputs.shape[0], steps)
            yield MEAN_FRAME, baselines.constant(mean, inputs.shape[0], steps)
        yield COPY_LAST, baselines.copy_last(inputs, steps)
        if inputs.ndim == 5 and inputs.shape[1] > 1:
            yield LINEAR, baselines.linear_motion(inputs, steps)

    def _keep(self, head: str, row: str, values: Mapping[str, Tensor]) -> None:
        kept = self.scores.setdefault((head, row), {})
        for name, t in values.items():
            kept.setdefault(name, []).append(t)

    def _finite(self, head: str, row: str, made: Tensor) -> None:
        wrong = ~made.isfinite().flatten(2).all(2)
        if wrong.any():
            clip, frame = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(
                f"lstmrep.eval.evaluate: the {head} of clip {self.clips + clip} ({row.removeprefix('model, ')}) is not "
                f"finite from frame {frame + 1} on; the model has diverged, take an earlier checkpoint, or fewer steps "
                "where only a long horizon overflows."
            )

    def _range(self, target: Tensor) -> None:
        if target.numel():
            low, high = (float(x) for x in target.aminmax())
            self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
