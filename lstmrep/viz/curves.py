"""Curves: the loss over training steps, the error over predicted frames. matplotlib's objects only, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lstmrep import files
from lstmrep.eval.report import Report
from lstmrep.eval.score import ENTROPY, FREE, FUTURE, TEACHER, UNITS
from lstmrep.optional import package

CALLER = "lstmrep.viz.curves"
# Okabe and Ito's colours, told apart in every kind of colour vision; grey for what needs no learning.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASELINE = "#8a8a8a"
DASHES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 3)))
LABELS = {
    "mse": "squared error a frame",
    "mae": "absolute error a frame",
    "ssim": "SSIM",
    "psnr": "PSNR, dB",
    "lpips": "LPIPS",
}


def training_curve(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | Path,
    *,
    baselines: Mapping[str, float] | None = None,
    ylabel: str = "loss a frame",
    dark: bool = False,
) -> None:
    """Write losses over training steps.

    Args:
        series: name -> (steps, values), one line each.
        path: the file; ``.png`` or ``.svg``.
        baselines: name -> value, a level line each.
        ylabel: name and unit of the values.
        dark: light lines on a dark ground.

    Raises:
        ValueError: no series, or steps and values of different lengths.
        ImportError: matplotlib is not installed.
    """
    if not series:
        raise ValueError(f"{CALLER}: argument 'series' is empty, expected one line at least.")
    figure, axes = _axes("step", ylabel, dark)
    for k, (name, (steps, values)) in enumerate(series.items()):
        if len(steps) != len(values):
            raise ValueError(f"{CALLER}: series '{name}' has {len(steps)} steps and {len(values)} values.")
        axes.plot(steps, values, color=COLORS[k % len(COLORS)], label=name)
    for k, (name, value) in enumerate((baselines or {}).items()):
        axes.axhline(value, color=BASELINE, linestyle=DASHES[k % len(DASHES)], label=name)
    _write(figure, axes, path)


def error_curve(
    report: Report, path: str | Path, *, metric: str | None = None, head: str = FUTURE, dark: bool = False
) -> None:
    """Write a metric over the frames of a head: the model in colour, the baselines in grey.

    Where the model predicts further than it was trained to, a thin line marks the last trained frame.

    Args:
        report: from :func:`lstmrep.eval.evaluate`.
        path: the file; ``.png`` or ``.svg``.
        metric: a column of the report; default its loss.
        head: ``"future"`` or ``"reconstruction"`` (frame 1 is then the last input frame).
        dark: light lines on a dark ground.

    Raises:
        ValueError: the report has no such head or metric.
        ImportError: matplotlib is not installed.
    """
    metric = metric or report.loss
    rows = [row for row in report.rows if row.head == head and metric in row.values]
    if not rows:
        raise ValueError(
            f"{CALLER}: the report has no '{metric}' for the head '{head}', expected one of "
            f"{', '.join(report.columns())}."
        )
    figure, axes = _axes("frame", LABELS.get(metric, UNITS.get(metric, metric)), dark)
    model = [name for name in (FREE, TEACHER) if name in {row.name for row in rows}]
    others = [row.name for row in rows if row.name not in model]
    for row in rows:
        frames, curve = range(1, row.frames + 1), row.curve(metric)
        if row.name in model:
            axes.plot(frames, curve, color=COLORS[model.index(row.name)], marker="o", markersize=3, label=row.name)
        else:
            dash = "-" if row.name == ENTROPY else DASHES[others.index(row.name) % len(DASHES)]
            axes.plot(frames, curve, color=BASELINE, linestyle=dash, linewidth=1, label=row.name)
    if head == FUTURE and 0 < report.trained < report.steps:
        axes.axvline(report.trained, color=BASELINE, linewidth=0.6)
    _write(figure, axes, path)


def _axes(xlabel: str, ylabel: str, dark: bool) -> tuple[Any, Any]:
    figure = package("matplotlib.figure", CALLER, "viz").Figure(figsize=(7.2, 3.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    ground, ink = ("#16181d", "#d8dade") if dark else ("#ffffff", "#33363b")
    figure.set_facecolor(ground)
    axes.set_facecolor(ground)
    axes.set_xlabel(xlabel, color=ink)
    axes.set_ylabel(ylabel, color=ink)
    axes.tick_params(colors=ink)
    axes.grid(color=ink, alpha=0.15, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(ink)
    # Frames and steps are whole numbers.
    axes.xaxis.set_major_locator(package("matplotlib.ticker", CALLER, "viz").MaxNLocator(integer=True))
    return figure, axes


def _write(figure: Any, axes: Any, path: str | Path) -> None:
    # Beside the axes: inside, it would lie over one curve or another.
    figure.legend(loc="outside right center", frameon=False, labelcolor=axes.xaxis.label.get_color(), fontsize="small")
    kind = Path(path).suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        raise ValueError(f"{CALLER}: argument 'path' is {path}, expected a name that ends in .png or .svg.")
    canvas = package("matplotlib.backends.backend_agg", CALLER, "viz").FigureCanvasAgg
    if kind == "svg":
        canvas = package("matplotlib.backends.backend_svg", CALLER, "viz").FigureCanvasSVG
    canvas(figure)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=kind)
