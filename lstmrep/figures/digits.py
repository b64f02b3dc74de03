"""Figure 8 of the paper: clips with more or fewer digits than the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from lstmrep.eval.evaluate import evaluate
from lstmrep.eval.report import Report, aligned
from lstmrep.eval.score import ENTROPY, FREE, FUTURE, RECONSTRUCTION
from lstmrep.figures.figure import Figure, Line, images
from lstmrep.nn import CompositeModel
from lstmrep.viz.filmstrip import draw_rows, placed

CALLER = "lstmrep.figures.digits"


def digits(
    model: CompositeModel,
    clips: Mapping[int, Tensor],
    out: str | Path,
    *,
    means: Mapping[int, Tensor] | None = None,
    trained: tuple[int, int] | None = None,
    shown: int = 2,
    scale: int = 2,
) -> Figure:
    """Draw and score a model on clips with different numbers of digits.

    Writes ``digits.png``, for each number some clips with the model below, and ``digits.csv``:
    ``digits,head,prediction,loss,standard_error,clips``, where ``prediction`` is the model or a baseline.

    Args:
        model: a :class:`lstmrep.CompositeModel`.
        clips: by the number of digits, whole clips ``[B, T, C, H, W]`` in [0, 1], all of one T and frame size.
        out: the folder.
        means: by the number of digits, the mean frame of training clips with so many, for the baselines: a model is
            held against the mean of the data that it is shown, which knows how many digits there are.
        trained: lowest and highest number of digits in training, for the words; default: not known.
        shown: clips of each number in the picture, the first ones. Default 2.
        scale: each value becomes a square of this many pixels. Default 2.

    Returns:
        The :class:`Figure`.

    Raises:
        ValueError: no clips, no images, clips that are too short.
        ImportError: pillow is not installed.

    Source: Srivastava et al. 2015, section 3.1, out-of-domain inputs.
    """
    if not clips:
        raise ValueError(f"{CALLER}: argument 'clips' is empty, expected clips of one number of digits at least.")
    if shown < 1:
        raise ValueError(f"{CALLER}: argument 'shown' is {shown}, expected 1 or more.")
    reports: dict[int, Report] = {}
    for n, some in clips.items():
        mean = (means or {}).get(n)
        reports[n] = evaluate(model, [images(CALLER, some)], mean=mean, metrics=(), keep=shown)
    rows: list[tuple[str, list[tuple[int, np.ndarray]]]] = []
    for n, report in reports.items():
        inputs = report.input_frames
        for k in range(report.kept):
            clip = {name: frames[k] for name, frames in report.arrays.items() if name != "mean"}
            told = clip["reconstruction"][::-1] if "reconstruction" in clip else None
            name = f"{n} digit{'' if n == 1 else 's'}"
            rows.append((name, placed(clip["inputs"], 0) + placed(clip.get("trues"), inputs)))
            start = inputs - (0 if told is None else len(told))
            rows.append(("model", placed(told, start) + placed(clip.get("preds"), inputs)))
    figure = Figure(Path(out))
    one = next(iter(reports.values()))
    figure.grids["digits"] = draw_rows(
        rows,
        range(1 - one.input_frames, one.steps + 1),
        figure.picture("digits.png"),
        scale=scale,
        group=2,
        caller=CALLER,
    )
    figure.table("digits", [line for n, report in reports.items() for line in _lines(n, report)])
    figure.found = _said(reports, trained)
    return figure


def _lines(n: int, report: Report) -> list[Line]:
    return [
        {
            "digits": n,
            "head": row.head,
            "prediction": row.name,
            "loss": row.mean(report.loss),
            "standard_error": row.error(report.loss),
            "clips": report.clips,
        }
        for row in report.rows
    ]


def _said(reports: Mapping[int, Report], trained: tuple[int, int] | None) -> list[str]:
    """The table, a column for each number of digits."""
    found: list[str] = []
    for head in (RECONSTRUCTION, FUTURE):
        one = next(iter(reports.values()))
        names = [row.name for row in one.rows if row.head == head and row.name != ENTROPY]
        if not names:
            continue
        table = [[f"{head}, {one.headings()[0]}", *(_title(n, trained) for n in reports)]]
        for name in names:
            table.append([name, *(f"{r.row(head, name).mean(r.loss):.2f}" for r in reports.values())])
        found += aligned(table)
        if trained is None:
            continue
        inside = [r for n, r in reports.items() if trained[0] <= n <= trained[1]]
        outside = [r for n, r in reports.items() if not trained[0] <= n <= trained[1]]
        if inside and outside:
            means = [np.mean([r.row(head, FREE).mean(r.loss) for r in part]) for part in (outside, inside)]
            found.append(f"{head}: out of domain {means[0]:.2f}, in domain {means[1]:.2f}")
    return found


def _title(n: int, trained: tuple[int, int] | None) -> str:
    seen = trained is not None and trained[0] <= n <= trained[1]
    return f"{n} digit{'' if n == 1 else 's'}{' (trained)' if seen else ''}"
