"""Figure 12 of the paper: accuracy against the number of labelled examples, for each way to start the encoder."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lstmrep.eval.report import aligned
from lstmrep.figures.figure import BASELINE, INK, Figure, Line, bare, plot, write
from lstmrep.viz.curves import COLORS

CALLER = "lstmrep.figures.labels"
COLUMNS = ("task", "encoder", "labels", "resampling", "accuracy")
ALL, NONE = "all", "none"
MARKERS = "os^Dv*"


def labels(results: Sequence[str | Path] | Iterable[Mapping[str, object]], out: str | Path) -> Figure:
    """Draw accuracy over labelled examples a class, with error bars over resamplings of the examples.

    Writes ``labels.png``, a panel for each task, and ``labels.csv``:
    ``encoder,labels,mean,std,resamplings,standard_error,task``. ``std`` is the standard deviation over resamplings with
    n - 1 in its denominator, empty for a single one; the bars in the picture are the standard deviation.

    Args:
        results: CSV files, or lines of them, with the columns ``task``, ``encoder`` (a name, or ``none`` for an encoder
            that starts at random), ``labels`` (examples a class, or ``all``), ``resampling`` and ``accuracy`` (a share
            in [0, 1]).
        out: the folder.

    Returns:
        The :class:`Figure`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or empty, lacks a column, holds an accuracy that is no share or
            the same resampling twice.
        ImportError: matplotlib is not installed.

    Source: Srivastava et al. 2015, section 3.2, action recognition with few labels.
    """
    given = list(results)
    rows: list[tuple[str, Mapping[str, object]]] = []
    for k, one in enumerate(given):
        rows += [(f"line {k + 1}", one)] if isinstance(one, Mapping) else _read(Path(one))
    if not rows:
        raise ValueError(f"{CALLER}: argument 'results' holds no lines, expected one at least.")
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for where, row in rows:
        task, encoder, count, resampling, accuracy = _checked(where, row)
        seen = groups.setdefault((task, encoder, count), {})
        if resampling in seen:
            raise ValueError(
                f"{CALLER}: {where} has resampling {resampling} of {task}, {encoder}, {count} labels a second time; "
                "give each one once."
            )
        seen[resampling] = accuracy
    keys = list(groups)
    encoders = list(dict.fromkeys(encoder for _, encoder, _ in keys))
    tasks = list(dict.fromkeys(task for task, _, _ in keys))
    counts = sorted({count for _, _, count in keys}, key=_size)
    lines = [
        _summary(task, encoder, count, list(groups[task, encoder, count].values()))
        for task in tasks
        for encoder in encoders
        for count in counts
        if (task, encoder, count) in groups
    ]
    figure = Figure(Path(out))
    _draw(figure, lines, tasks, encoders, counts)
    figure.table("labels", lines)
    figure.found = _table(lines, tasks, encoders, counts)
    return figure


def _read(path: Path) -> list[tuple[str, Mapping[str, object]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: no file {path}; pass CSV files with the columns {','.join(COLUMNS)}.")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{CALLER}: {path} has no column '{missing[0]}', expected {','.join(COLUMNS)}.")
        return [(f"{path}, line {reader.line_num},", row) for row in reader]


def _checked(where: str, row: Mapping[str, object]) -> tuple[str, str, str, str, float]:
    absent = [name for name in COLUMNS if row.get(name) in (None, "")]
    if absent:
        raise ValueError(f"{CALLER}: {where} has no '{absent[0]}', expected {','.join(COLUMNS)}.")
    task, encoder, count, resampling = (str(row[name]).strip() for name in COLUMNS[:4])
    if count != ALL and not (count.isdecimal() and int(count) > 0):
        raise ValueError(f"{CALLER}: {where} has labels '{count}', expected a whole number of 1 or more, or '{ALL}'.")
    try:
        accuracy = float(str(row["accuracy"]))
    except ValueError:
        accuracy = math.nan
    if not 0 <= accuracy <= 1:
        raise ValueError(
            f"{CALLER}: {where} has the accuracy '{row['accuracy']}', expected a share from 0 to 1; divide per cents "
            "by 100."
        )
    return task, encoder, count if count == ALL else str(int(count)), resampling, accuracy


def _size(count: str) -> float:
    return math.inf if count == ALL else int(count)


def _summary(task: str, encoder: str, count: str, accuracies: list[float]) -> Line:
    n = len(accuracies)
    std = float(np.std(accuracies, ddof=1)) if n > 1 else math.nan
    return {
        "encoder": encoder,
        "labels": count,
        "mean": float(np.mean(accuracies)),
        "std": std,
        "resamplings": n,
        "standard_error": std / math.sqrt(n),
        "task": task,
    }


def _title(encoder: str) -> str:
    return "random initialisation" if encoder == NONE else encoder


def _draw(figure: Figure, lines: list[Line], tasks: list[str], encoders: list[str], counts: list[str]) -> None:
    made = plot(CALLER, 1.5 + 5 * len(tasks), 4)
    panels = made.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    learnt = [encoder for encoder in encoders if encoder != NONE]
    for panel, task in zip(panels, tasks, strict=True):
        bare(panel)
        for encoder in encoders:
            own = [line for line in lines if (line["task"], line["encoder"]) == (task, encoder)]
            color = BASELINE if encoder == NONE else COLORS[learnt.index(encoder) % len(COLORS)]
            panel.errorbar(
                [counts.index(line["labels"]) for line in own],
                [line["mean"] for line in own],
                yerr=[0.0 if math.isnan(line["std"]) else line["std"] for line in own],
                marker=MARKERS[encoders.index(encoder) % len(MARKERS)],
                color=color,
                capsize=3,
                label=_title(encoder),
            )
        panel.set_xticks(range(len(counts)), counts)
        panel.set_xlabel("labelled examples a class", color=INK)
        panel.set_title(task, fontsize="medium", color=INK)
    panels[0].set_ylabel("accuracy ± standard deviation", color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside right center", frameon=False, fontsize="small")
    write(made, figure.picture("labels.png"))


def _table(lines: list[Line], tasks: list[str], encoders: list[str], counts: list[str]) -> list[str]:
    found: list[str] = []
    for task in tasks:
        table = [[f"{task}: accuracy ± standard deviation", *counts]]
        for encoder in encoders:
            own = {line["labels"]: line for line in lines if (line["task"], line["encoder"]) == (task, encoder)}
            table.append([_title(encoder), *(_shown(own.get(count)) for count in counts)])
        found += aligned(table)
    fewest, most = min(line["resamplings"] for line in lines), max(line["resamplings"] for line in lines)
    found.append(f"resamplings: {fewest if fewest == most else f'{fewest} to {most}'}; bars: standard deviation")
    return found


def _shown(line: Line | None) -> str:
    if line is None:
        return "-"
    return f"{line['mean']:.3f}" + ("" if math.isnan(line["std"]) else f" ± {line['std']:.3f}")
