"""Runs a model over clips and scores both heads, free-running and teacher-forced, beside the baselines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lstmrep.eval import cost
from lstmrep.eval.baselines import frames_of
from lstmrep.eval.report import Report, Row, load
from lstmrep.eval.score import (
    CROSS_ENTROPY,
    FRAME_METRICS,
    FUTURE,
    HALF_SQUARED,
    RECONSTRUCTION,
    Batch,
    Scorer,
    Settings,
)
from lstmrep.nn.outputs import squash

if TYPE_CHECKING:
    from lstmrep.nn import CompositeModel

LOSSES = {"bernoulli": CROSS_ENTROPY, "squash": CROSS_ENTROPY, "gaussian": HALF_SQUARED, "relu": HALF_SQUARED}
CHUNK = 64


def evaluate(
    model: CompositeModel,
    batches: Iterable[Any],
    *,
    steps: int | None = None,
    mean: Tensor | None = None,
    keep: int = 0,
    metrics: Sequence[str] = FRAME_METRICS,
    clamp: float = 1e-10,
    baseline_clamp: float = 1e-4,
    ssim_range: float = 2.0,
    lpips_weights: str | Path | None = None,
    description: str = "",
) -> Report:
    """Score a model on clips it was not trained on.

    For each head: the paper's loss and the field's metrics, of the model free-running (a conditional decoder reads what
    it made itself) and, where the decoder is conditional, teacher-forced (it reads the true frame before), of the
    baselines, and of the targets' own entropy. Numbers are formed in float64 from the float32 frames that are kept.

    Args:
        model: a :class:`lstmrep.CompositeModel`; it runs in eval mode under ``torch.inference_mode``, and has its modes
            back afterwards.
        batches: clips ``[B, T, *frame]`` or tuples that start with them, all of one T; the last ``steps`` frames of a
            clip are the true future, those before are the input. Moved to the model's device and dtype.
        steps: future frames to predict; default ``model.config.predict``. With more, the model runs on beyond the
            horizon it was built for; teacher-forced numbers end at that horizon.
        mean: the mean frame of the training data, from :func:`mean_frame`; without it two baselines are missing.
        keep: clips whose frames go into the report, the first ones; 0 keeps all. Of 64 by 64 pixels and 10 + 10 frames
            the 10,000 clips of a test set take 6.6 GB.
        metrics: which of ``mse``, ``mae``, ``ssim``, ``psnr`` beside the loss, and ``lpips``, which is left out with a
            note where its package or its weights are missing.
        clamp: least probability in the model's cross-entropy, see :func:`cross_entropy`.
        baseline_clamp: the same for baselines that repeat a frame: their zeros and ones claim a certainty that costs
            ``-log(baseline_clamp)`` a pixel. Printed in the table.
        ssim_range: see :func:`ssim`.
        lpips_weights: see :func:`lpips`.
        description: the data in words: source, split, seed (``MovingMNIST.description``).

    Returns:
        A :class:`Report`.

    Raises:
        ValueError: no clips, clips too short or of different lengths, a prediction that is not finite.

    Source: Srivastava et al. 2015, section 3, for losses and feeding.
    """
    config: Any = model.config
    steps = _steps(config, steps)
    settings = Settings(LOSSES[config.output], tuple(metrics), clamp, baseline_clamp, ssim_range)
    runner = _Runner(model, steps)
    scorer = Scorer(settings, mean, lpips_weights)
    kept: list[Batch] = []
    with _eval_mode(model), torch.inference_mode():
        for given in batches:
            batch = runner(frames_of(given))
            scorer.add(batch)
            room = keep - sum(b.inputs.shape[0] for b in kept) if keep else batch.inputs.shape[0]
            if room > 0:
                kept.append(Batch(**{name: t[:room].cpu() for name, t in batch.arrays().items()}))
    if not scorer.clips:
        raise ValueError("lstmrep.eval.evaluate: argument 'batches' holds no clips, expected one at least.")
    arrays = {name: torch.cat([getattr(b, name) for b in kept]).numpy() for name in kept[0].arrays()}
    if mean is not None:
        arrays["mean"] = mean.detach().cpu().float().numpy()
    return Report(
        rows=_rows(scorer),
        settings=settings,
        description=description,
        clips=scorer.clips,
        input_frames=runner.input_frames,
        trained=config.predict,
        steps=steps,
        parameters=cost.parameters(model),
        flops_per_clip=cost.flops_per_clip(config, runner.input_frames),
        clips_per_second=runner.clips_per_second(),
        device=cost.device_name(runner.device),
        notes=list(scorer.notes.values()),
        arrays=arrays,
    )


def recompute(folder: str | Path, *, lpips_weights: str | Path | None = None) -> Report:
    """Form a report again from the frames that :meth:`Report.save` wrote, with no model.

    Args:
        folder: the folder.
        lpips_weights: see :func:`lpips`.

    Returns:
        A report over the kept clips, with the settings, description and costs of the saved one.

    Raises:
        FileNotFoundError, ValueError: no report is there, or one of another format.
    """
    saved = load(folder)
    arrays = dict(saved.arrays)
    mean = arrays.pop("mean", None)
    scorer = Scorer(saved.settings, None if mean is None else torch.from_numpy(np.array(mean)), lpips_weights)
    for start in range(0, saved.kept, CHUNK):
        part = {name: torch.from_numpy(np.array(a[start : start + CHUNK])) for name, a in arrays.items()}
        scorer.add(Batch(**part))
    return replace(
        saved, rows=_rows(scorer), clips=scorer.clips, clips_per_second=0.0, notes=list(scorer.notes.values())
    )


class _Runner:
    """Runs the model on one batch after another, and takes the time of the free-running pass."""

    def __init__(self, model: CompositeModel, steps: int) -> None:
        self.model = model
        self.config: Any = model.config
        self.steps = steps
        some = next(model.parameters(), None)
        self.device = torch.device("cpu") if some is None else some.device
        self.dtype = torch.float32 if some is None else some.dtype
        self.input_frames = 0
        self.shape: tuple[int, ...] = ()
        self.times: list[tuple[int, float]] = []

    def __call__(self, frames: Tensor) -> Batch:
        c = self.config
        self._check(frames)
        # Scored as given: rounded to the model's precision they would be easier to hit.
        frames = frames.to(self.device, torch.float32)
        read = self._turned(frames.to(self.dtype))
        n = self.input_frames
        used = self._part(read, n + c.predict)
        cost.synchronize(self.device)
        begin = time.perf_counter()
        free = self.model(used, feeding="own")
        cost.synchronize(self.device)
        self.times.append((frames.shape[0], time.perf_counter() - begin))
        forced = self.model(used, feeding="teacher") if c.conditional_reconstruction or c.conditional_future else None
        future = free.future
        if self.steps > c.predict:
            future = self.model.predict(self._part(read, n), self.steps)
        # A squashed output's frames are the squashed ones.
        scored = squash(frames, c.squash) if c.output == "squash" else frames
        batch = Batch(inputs=scored[:, :n])
        if c.predict:
            batch.trues, batch.preds = scored[:, n:], self._turned(future).float()
            if forced is not None and c.conditional_future:
                batch.preds_teacher = self._turned(forced.future).float()
        if c.reconstruct:
            batch.reconstruction = self._turned(free.reconstruction).float()
            if forced is not None and c.conditional_reconstruction:
                batch.reconstruction_teacher = self._turned(forced.reconstruction).float()
        return batch

    def clips_per_second(self) -> float:
        """Over all batches but the first, which warms up, where there is more than one."""
        times = self.times[1:] or self.times
        seconds = sum(t for _, t in times)
        return sum(n for n, _ in times) / seconds if seconds else 0.0

    def _turned(self, frames: Tensor) -> Tensor:
        """Between clips first, as here, and the order of the model."""
        return frames if self.config.batch_first else frames.transpose(0, 1)

    def _part(self, frames: Tensor, count: int) -> Tensor:
        """The first frames, in the model's order."""
        return frames[:, :count] if self.config.batch_first else frames[:count]

    def _check(self, frames: Tensor) -> None:
        shape, fewest = tuple(frames.shape[1:]), max(1, self.config.reconstruct)
        if not self.shape:
            self.shape, self.input_frames = shape, shape[0] - self.steps
        if shape != self.shape:
            raise ValueError(
                f"lstmrep.eval.evaluate: a batch has clips of the shape {shape}, earlier ones had {self.shape}; pass "
                "clips of one length and frame size."
            )
        if self.input_frames < fewest:
            raise ValueError(
                f"lstmrep.eval.evaluate: clips have {shape[0]} frames, expected {fewest + self.steps} or more: "
                f"{fewest} to read and {self.steps} to predict."
            )


def _rows(scorer: Scorer) -> list[Row]:
    """Heads in the table's order; within one, as they were scored."""
    found = scorer.rows()
    return [Row(*key, values) for head in (RECONSTRUCTION, FUTURE) for key, values in found.items() if key[0] == head]


def _steps(config: Any, steps: int | None) -> int:
    if steps is None:
        return int(config.predict)
    if not config.predict and steps:
        raise ValueError(
            f"lstmrep.eval.evaluate: argument 'steps' is {steps}, but the model was built with predict=0 and has no "
            "future head; leave it out."
        )
    if steps < config.predict:
        raise ValueError(
            f"lstmrep.eval.evaluate: argument 'steps' is {steps}, expected the {config.predict} that the model "
            "predicts, or more."
        )
    return steps


@contextmanager
def _eval_mode(model: CompositeModel) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
