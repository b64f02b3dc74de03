"""Long roll-outs: how far past its trained horizon a model still predicts, and how its frames fade."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from lstmrep.eval.evaluate import evaluate
from lstmrep.eval.report import Report, Row
from lstmrep.eval.score import FREE, FUTURE, MEAN_FRAME
from lstmrep.figures.figure import Figure, images
from lstmrep.nn import CompositeModel
from lstmrep.viz.animation import animation
from lstmrep.viz.curves import error_curve
from lstmrep.viz.filmstrip import draw_rows, placed

CALLER = "lstmrep.figures.rollout"


def rollout(
    model: CompositeModel,
    clips: Tensor,
    out: str | Path,
    *,
    steps: int = 60,
    every: int = 5,
    shown: int = 4,
    mean: Tensor | None = None,
    scale: int = 2,
) -> Figure:
    """Draw long roll-outs: every k-th frame, the loss by step beside baselines, and a film.

    Writes ``rollout.png`` (a grey line marks the trained horizon), ``rollout-curve.png``, ``rollout.gif`` (the first
    clip) and ``rollout.csv``: ``step``, ``trained`` (whether the step lies within the trained horizon), then for the
    model, each baseline and the targets' entropy the mean loss over clips.

    Args:
        model: a :class:`lstmrep.CompositeModel` with a future head.
        clips: whole clips, floating point ``[B, T, C, H, W]`` in [0, 1]; the last ``steps`` frames are the true future.
        out: the folder.
        steps: future frames, ``model.config.predict`` or more. Default 60.
        every: a column for each frame whose number is a multiple of this. Default 5.
        shown: clips in the picture, the first ones; the numbers are of all. Default 4.
        mean: the mean frame of the training data, from :func:`lstmrep.eval.mean_frame`, for two of the baselines.
        scale: each value becomes a square of this many pixels; twice that in the film. Default 2.

    Returns:
        The :class:`Figure`.

    Raises:
        ValueError: no future head, no images, clips that are too short, a prediction that is not finite.
        ImportError: pillow or matplotlib is not installed.
    """
    images(CALLER, clips)
    if model.future is None:
        raise ValueError(f"{CALLER}: the model was built with predict=0 and has no future head.")
    for name, value in (("every", every), ("shown", shown)):
        if value < 1:
            raise ValueError(f"{CALLER}: argument '{name}' is {value}, expected 1 or more.")
    report = evaluate(model, [clips], steps=steps, mean=mean, metrics=(), keep=shown)
    inputs = report.input_frames
    numbers = [n for n in range(1 - inputs, steps + 1) if n % every == 0]
    rows: list[tuple[str, list[tuple[int, np.ndarray]]]] = []
    for k in range(report.kept):
        clip = {name: frames[k] for name, frames in report.arrays.items() if name != "mean"}
        truth = [*clip["inputs"], *clip["trues"]]
        told = clip["reconstruction"][::-1] if "reconstruction" in clip else clip["inputs"][:0]
        made = dict(placed(told, 1 - len(told))) | dict(placed(clip["preds"], 1))
        rows.append(("truth", [(column, truth[n + inputs - 1]) for column, n in enumerate(numbers)]))
        rows.append(("model", [(column, made[n]) for column, n in enumerate(numbers) if n in made]))
    figure = Figure(Path(out))
    beyond = [column for column, n in enumerate(numbers) if n > report.trained]
    figure.grids["rollout"] = draw_rows(
        rows,
        numbers,
        figure.picture("rollout.png"),
        scale=scale,
        group=2,
        mark=beyond[0] if beyond else None,
        caller=CALLER,
    )
    error_curve(report, figure.picture("rollout-curve.png"))
    first = {name: frames[0] for name, frames in report.arrays.items() if name != "mean"}
    film = figure.picture("rollout.gif")
    animation(first["inputs"], first.get("reconstruction"), first["preds"], first["trues"], film, scale=2 * scale)
    of_future = [row for row in report.rows if row.head == FUTURE]
    figure.table(
        "rollout",
        [
            {"step": t + 1, "trained": t < report.trained, **{_column(row): _at(row, report, t) for row in of_future}}
            for t in range(steps)
        ],
    )
    figure.found = _said(report)
    return figure


def _column(row: Row) -> str:
    """A name of one word for a row, such as ``model``, ``model_teacher_forced``, ``copy_last``."""
    name = "model" if row.name == FREE else row.name
    return name.replace(",", "").replace(" ", "_").replace("-", "_")


def _at(row: Row, report: Report, t: int) -> float | None:
    """Mean over clips; none where the row ends before (teacher-forced numbers end at the trained horizon)."""
    return float(row.curve(report.loss)[t]) if t < row.frames else None


def _said(report: Report) -> list[str]:
    curve, unit = report.row(FUTURE, FREE).curve(report.loss), report.headings()[0]
    at = sorted({1, report.trained, report.steps})
    found = [f"loss of {report.clips} clips, {', '.join(f'step {t}: {curve[t - 1]:.2f}' for t in at)} {unit}"]
    if any((row.head, row.name) == (FUTURE, MEAN_FRAME) for row in report.rows):
        worse = np.flatnonzero(curve > report.row(FUTURE, MEAN_FRAME).curve(report.loss))
        where = f"first at step {worse[0] + 1}" if len(worse) else "at no step"
        found.append(f"the model is worse than the mean frame {where}; it was trained on {report.trained} steps")
    return found
