"""Figures 5 and 6 of the paper: what was read, what came after, and what each model made of it, under each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lstmrep.eval.evaluate import evaluate
from lstmrep.eval.report import Report
from lstmrep.eval.score import FREE, FUTURE, RECONSTRUCTION
from lstmrep.figures.figure import Figure, Line, images, models_agree
from lstmrep.nn import CompositeModel
from lstmrep.viz.filmstrip import draw_rows, placed

CALLER = "lstmrep.figures.filmstrip"


def filmstrip(
    models: Mapping[str, CompositeModel], clips: Tensor, out: str | Path, *, steps: int | None = None, scale: int = 2
) -> Figure:
    """Draw clips, and below each one the reconstruction and the future of every model, free-running.

    Writes ``filmstrip.png`` and ``filmstrip.csv``: ``model,clip,head,frame`` and the loss. Frames are numbered as in
    the picture: 0 is the last that was read, 1 the first that was predicted. The reconstruction is turned back into
    time order, so that it stands under the frames it repeats.

    Args:
        models: the models by label, all of the same kind of output.
        clips: whole clips, floating point ``[B, T, C, H, W]`` in [0, 1]; the last ``steps`` frames are the future.
        out: the folder.
        steps: future frames; default: the longest ``predict`` of the models.
        scale: each value becomes a square of this many pixels. Default 2.

    Returns:
        The :class:`Figure`; row k * (1 + models) of ``grids["filmstrip"]`` is the truth of clip k.

    Raises:
        ValueError: no models, models of different outputs, no images, clips that are too short.
        ImportError: pillow is not installed.

    Source: Srivastava et al. 2015, section 3.1 and 3.2.
    """
    images(CALLER, clips)
    models_agree(CALLER, {label: model.config for label, model in models.items()}, ("output", "squash", "input_size"))
    longest = max(model.config.predict for model in models.values())
    steps = longest if steps is None or not longest else steps
    reports = {label: _report(model, clips, steps) for label, model in models.items()}
    inputs = clips.shape[1] - steps
    truth = _truth(list(reports.values()))
    rows: list[tuple[str, list[tuple[int, np.ndarray]]]] = []
    for k in range(len(clips)):
        rows.append(("truth", placed(truth[k], 0)))
        for label, report in reports.items():
            told = report.arrays["reconstruction"][k][::-1] if "reconstruction" in report.arrays else None
            made = placed(told, inputs - (0 if told is None else len(told)))
            rows.append((label, made + placed(report.arrays["preds"][k] if "preds" in report.arrays else None, inputs)))
    figure = Figure(Path(out))
    figure.grids["filmstrip"] = draw_rows(
        rows,
        range(1 - inputs, steps + 1),
        figure.picture("filmstrip.png"),
        scale=scale,
        group=1 + len(models),
        caller=CALLER,
    )
    figure.table("filmstrip", [line for label, report in reports.items() for line in _lines(label, report)])
    for label, report in reports.items():
        parts = [f"{row.head} {row.mean(report.loss):.2f}" for row in report.rows if row.name == FREE]
        figure.found.append(f"{label}: {', '.join(parts)} {report.headings()[0]}, {report.clips} clips")
    return figure


def _report(model: CompositeModel, clips: Tensor, steps: int) -> Report:
    """A model with a future head predicts ``steps`` frames; one without reads the same input and tells it again."""
    if model.config.predict:
        return evaluate(model, [clips], steps=steps, metrics=())
    return evaluate(model, [clips[:, : clips.shape[1] - steps]], metrics=())


def _truth(reports: list[Report]) -> np.ndarray:
    """Frames as the models are held to them, input and future: squashed where the output is."""
    longest: Any = max(reports, key=lambda report: report.steps).arrays
    return np.concatenate([longest["inputs"], *([longest["trues"]] if "trues" in longest else [])], axis=1)


def _lines(label: str, report: Report) -> list[Line]:
    lines: list[Line] = []
    for head in (RECONSTRUCTION, FUTURE):
        for row in report.rows:
            if (row.head, row.name) != (head, FREE):
                continue
            # Frame k of a reconstruction is the k-th decoded: the k-th from the end of the input.
            numbers = [-k if head == RECONSTRUCTION else k + 1 for k in range(row.frames)]
            for clip, values in enumerate(row.values[report.loss]):
                told = sorted(zip(numbers, values, strict=True))
                for frame, value in told:
                    lines.append(
                        {"model": label, "clip": clip, "head": head, "frame": frame, report.loss: float(value)}
                    )
    return lines
