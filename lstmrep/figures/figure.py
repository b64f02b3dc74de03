"""What every figure leaves behind: pictures, tables of the numbers in them, a few lines on what was found."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lstmrep import files
from lstmrep.optional import package
from lstmrep.viz.frames import Grid

# A line of a table: value by column. A value that is none or not a number is an empty cell.
Line = dict[str, Any]
INK, BASELINE = "#33363b", "#8a8a8a"


@dataclass
class Figure:
    """What a function of ``lstmrep.figures`` made.

    Attributes:
        folder: where its files lie.
        paths: the files, pictures first.
        found: what the numbers say, a line each.
        tables: by the name of the CSV file without its suffix, the lines as they were written.
        grids: by the name of the picture without its suffix (and of the part, after a slash), where frames lie in it.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    tables: dict[str, list[Line]] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)

    def picture(self, name: str) -> Path:
        """The path of a picture, which is noted."""
        self.paths.append(self.folder / name)
        return self.paths[-1]

    def table(self, name: str, lines: Iterable[Line]) -> None:
        """Write ``name.csv``, whole or not at all, with a header.

        Numbers are written with as many digits as give the same number back.
        """
        lines = list(lines)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in line.items()} for line in lines)
        path = self.folder / f"{name}.csv"
        files.write_text(path, text.getvalue())
        self.paths.append(path)
        self.tables[name] = lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, np.float32):
        return "" if math.isnan(value) else f"{value:.9g}"
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return str(value)


def images(caller: str, clips: Tensor) -> Tensor:
    """``clips``, if they are pictures.

    Args:
        caller: who asks.
        clips: ``[B, T, *frame]``.

    Raises:
        ValueError: they are not ``[B, T, C, H, W]`` with C of 1 or 3.
    """
    if clips.ndim != 5 or clips.shape[2] not in (1, 3):
        raise ValueError(
            f"{caller}: clips have the shape {tuple(clips.shape)}, expected [B, T, C, H, W] with C = 1 or 3; data that "
            "are no images cannot be shown."
        )
    return clips


def plot(caller: str, width: float, height: float) -> Any:
    """A matplotlib figure of this many inches, 100 pixels each; no state outside it."""
    made = package("matplotlib.figure", caller, "viz").Figure(figsize=(width, height), dpi=100, layout="constrained")
    package("matplotlib.backends.backend_agg", caller, "viz").FigureCanvasAgg(made)
    made.set_facecolor("#ffffff")
    return made


def bare(axes: Any) -> Any:
    """The same axes with two spines and a faint grid."""
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=0.15, linewidth=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    return axes


def write(made: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG, whole or not at all."""
    with files.replacing(path) as temporary:
        made.savefig(temporary, format="png")


def models_agree(caller: str, configs: Mapping[str, Any], settings: Sequence[str]) -> None:
    """Refuse models whose settings of these names differ.

    Args:
        caller: who asks.
        configs: ``model.config`` by the model's label.
        settings: names of settings.

    Raises:
        ValueError: there is no model, or two differ; the sentence names both.
    """
    if not configs:
        raise ValueError(f"{caller}: argument 'models' is empty, expected one model at least.")
    (first, one), *others = configs.items()
    for label, other in others:
        for name in settings:
            if getattr(one, name) != getattr(other, name):
                raise ValueError(
                    f"{caller}: '{first}' has {name}={getattr(one, name)!r} and '{label}' {getattr(other, name)!r}; "
                    "compare models that agree in it."
                )
