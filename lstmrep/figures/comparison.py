"""Depth, size, conditioning: models side by side on the same clips, in one table and one picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lstmrep.eval.evaluate import evaluate
from lstmrep.eval.report import Report, Row, aligned
from lstmrep.eval.score import ENTROPY, FREE, FUTURE, RECONSTRUCTION, TEACHER
from lstmrep.figures.figure import BASELINE, INK, Figure, Line, bare, models_agree, plot, write
from lstmrep.nn import CompositeModel

CALLER = "lstmrep.figures.comparison"
HEADS = (RECONSTRUCTION, FUTURE)
COLOR = "#0072b2"


def comparison(
    models: Mapping[str, CompositeModel],
    clips: Iterable[Any],
    out: str | Path,
    *,
    mean: Tensor | None = None,
    clamp: float = 1e-4,
) -> Figure:
    """Score models on the same clips; table and dot plot with the baselines below.

    Writes ``comparison.png`` and ``comparison.csv``. Columns: ``name``, ``kind`` (model or baseline), ``parameters``,
    ``layers``, ``units``, ``conditional_reconstruction``, ``conditional_future``, and for each head the mean loss
    free-running, its standard error over clips, and the teacher-forced loss where the decoder is conditional.

    Args:
        models: the models by label. A model may lack a head; those that have it make as many frames.
        clips: batches ``[B, T, *frame]`` or tuples that start with them, gone through once for each model (a list, say,
            not an iterator); the last ``predict`` frames are the future.
        out: the folder.
        mean: the mean frame of the training data, from :func:`lstmrep.eval.mean_frame`, for two of the baselines.
        clamp: least probability of baselines that repeat a frame, see :func:`lstmrep.eval.evaluate`.

    Returns:
        The :class:`Figure`; its ``found`` is the table.

    Raises:
        ValueError: no models, horizons, frame sizes or outputs that differ, clips that are too short.
        ImportError: matplotlib is not installed.

    Source: the comparison of the paper's section 3.1 between one layer, two layers and conditioning.
    """
    models_agree(CALLER, {label: model.config for label, model in models.items()}, ("input_size", "output", "squash"))
    for head, setting in ((RECONSTRUCTION, "reconstruct"), (FUTURE, "predict")):
        having = {label: model.config for label, model in models.items() if getattr(model.config, setting)}
        if having:
            models_agree(f"{CALLER}, {head}", having, (setting,))
    predict = max(model.config.predict for model in models.values())
    reports: dict[str, Report] = {}
    for label, model in models.items():
        batches = _Cut(clips, 0 if model.config.predict else predict)
        reports[label] = evaluate(model, batches, mean=mean, metrics=(), keep=1, baseline_clamp=clamp)
    counts = {report.clips for report in reports.values()}
    if len(counts) != 1:
        raise ValueError(f"{CALLER}: argument 'clips' gave {sorted(counts)} clips; pass a list, not an iterator.")
    lines = [_of_model(label, model, reports[label]) for label, model in models.items()]
    lines += _of_baselines(list(reports.values()))
    figure = Figure(Path(out))
    _draw(figure, lines, next(iter(reports.values())))
    figure.table("comparison", lines)
    figure.found = _table(lines, next(iter(reports.values())))
    return figure


class _Cut:
    """The same clips without their last frames, for a model that predicts none: it reads what the others read."""

    def __init__(self, clips: Iterable[Any], frames: int) -> None:
        self.clips, self.frames = clips, frames

    def __iter__(self) -> Any:
        for batch in self.clips:
            frames = batch if isinstance(batch, Tensor) else batch[0]
            yield frames[:, : frames.shape[1] - self.frames]


def _loss(row: Row | None, report: Report) -> float | None:
    return None if row is None else row.mean(report.loss)


def _row(report: Report, head: str, name: str) -> Row | None:
    return next((row for row in report.rows if (row.head, row.name) == (head, name)), None)


def _numbers(report: Report, head: str, name: str) -> Line:
    row = _row(report, head, name)
    error = math.nan if row is None else row.error(report.loss)
    return {head: _loss(row, report), f"{head}_error": error}


def _of_model(label: str, model: CompositeModel, report: Report) -> Line:
    c = model.config
    line: Line = {
        "name": label,
        "kind": "model",
        "parameters": report.parameters,
        "layers": c.num_layers,
        "units": c.hidden_size,
        "conditional_reconstruction": c.conditional_reconstruction if c.reconstruct else None,
        "conditional_future": c.conditional_future if c.predict else None,
    }
    for head in HEADS:
        line |= _numbers(report, head, FREE)
        line[f"{head}_teacher"] = _loss(_row(report, head, TEACHER), report)
    return line


def _of_baselines(reports: list[Report]) -> list[Line]:
    """From the first report that has the head: the clips are the same."""
    owners = {head: next((r for r in reports if any(row.head == head for row in r.rows)), None) for head in HEADS}
    names: list[str] = []
    for report in filter(None, owners.values()):
        names += [row.name for row in report.rows if row.name not in (FREE, TEACHER)]
    # Once each, the bound last.
    names = sorted(dict.fromkeys(names), key=lambda name: name == ENTROPY)
    lines = []
    for name in names:
        line: Line = {"name": name, "kind": "baseline", "parameters": None, "layers": None, "units": None}
        line |= {"conditional_reconstruction": None, "conditional_future": None}
        for head in HEADS:
            owner = owners[head]
            line |= {head: None, f"{head}_error": None} if owner is None else _numbers(owner, head, name)
            line[f"{head}_teacher"] = None
        lines.append(line)
    return lines


def _table(lines: list[Line], report: Report) -> list[str]:
    heads = [head for head in HEADS if any(line[head] is not None for line in lines)]
    titles = [text for head in heads for text in (head, "teacher-forced")]
    table = [[report.headings()[0], "parameters", *titles]]
    for line in lines:
        cells = [line["name"], "" if line["parameters"] is None else f"{line['parameters']:,}"]
        for head in heads:
            error = line[f"{head}_error"]
            shown = "-" if line[head] is None else f"{line[head]:.2f}"
            known = error is not None and not math.isnan(error)
            cells.append(f"{shown} ± {error:.2f}" if known else shown)
            forced = line[f"{head}_teacher"]
            cells.append("-" if forced is None else f"{forced:.2f}")
        table.append(cells)
    return [*aligned(table), f"{report.clips:,} clips, {report.input_frames} frames in"]


def _draw(figure: Figure, lines: list[Line], report: Report) -> None:
    heads = [head for head in HEADS if any(line[head] is not None for line in lines)]
    made = plot(CALLER, 2 + 5 * len(heads), 1.6 + 0.32 * len(lines))
    panels = made.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    places = range(len(lines), 0, -1)
    for panel, head in zip(panels, heads, strict=True):
        bare(panel)
        for y, line in zip(places, lines, strict=True):
            color = COLOR if line["kind"] == "model" else BASELINE
            forced, error = line[f"{head}_teacher"], line[f"{head}_error"]
            if line[head] is not None:
                spread = 0.0 if error is None or math.isnan(error) else error
                panel.errorbar(line[head], y, xerr=spread, marker="o", color=color, linestyle="none")
            if forced is not None:
                panel.plot(forced, y, marker="o", color=color, fillstyle="none", linestyle="none")
        panel.set_title(head, fontsize="medium", color=INK)
        panel.set_xlabel(report.headings()[0], color=INK)
    panels[0].set_yticks(list(places), [line["name"] for line in lines])
    made.supxlabel(
        "full: free-running, with its standard error over clips; hollow: teacher-forced", color=INK, fontsize="small"
    )
    write(made, figure.picture("comparison.png"))
