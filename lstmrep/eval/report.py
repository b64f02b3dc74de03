"""The result of an evaluation: a table to read, files to keep, every clip's numbers to compare by."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lstmrep import files
from lstmrep.eval.score import COPY_LAST, CROSS_ENTROPY, FUTURE, LINEAR, RECONSTRUCTION, UNITS, Settings

FORMAT = 1
ARRAYS = ("inputs", "trues", "preds", "preds_teacher", "reconstruction", "reconstruction_teacher", "mean")
TITLES = {"mse": "MSE", "mae": "MAE", "ssim": "SSIM", "psnr": "PSNR dB", "lpips": "LPIPS"}
DIGITS = {"ssim": 4, "lpips": 4}


@dataclass(frozen=True)
class Row:
    """One prediction's numbers.

    Attributes:
        head: ``"reconstruction"`` or ``"future"``.
        name: who predicted: the model (free-running or teacher-forced), a baseline, or the targets' entropy.
        values: by metric, float64 ``[clips, frames]``. Frame k of a reconstruction is the k-th decoded, so that frame 0
            is the last input frame; frame k of the future is the k-th after the input.
    """

    head: str
    name: str
    values: dict[str, np.ndarray]

    @property
    def frames(self) -> int:
        """How many frames were predicted."""
        return int(next(iter(self.values.values())).shape[1])

    def curve(self, metric: str) -> np.ndarray:
        """Mean over clips for each frame, float64 ``[frames]``."""
        curve: np.ndarray = self._known(metric).mean(0)
        return curve

    def mean(self, metric: str, start: int = 0, stop: int | None = None) -> float:
        """Mean over clips and over the frames ``start`` to ``stop`` (all by default)."""
        return float(self._known(metric)[:, start:stop].mean())

    def error(self, metric: str, start: int = 0, stop: int | None = None) -> float:
        """Standard error of :meth:`mean` over clips; NaN for a single clip or an infinite mean."""
        clips = self._known(metric)[:, start:stop].mean(1)
        if len(clips) < 2 or not np.isfinite(clips).all():
            return math.nan
        return float(clips.std(ddof=1) / math.sqrt(len(clips)))

    def _known(self, metric: str) -> np.ndarray:
        if metric not in self.values:
            raise KeyError(
                f"lstmrep.eval.Report: the row '{self.name}' has no '{metric}', it has {', '.join(self.values)}."
            )
        return self.values[metric]


@dataclass(frozen=True)
class Report:
    """What :func:`lstmrep.eval.evaluate` found.

    Attributes:
        rows: the model, the baselines and the targets' entropy, by head.
        settings: what the numbers depend on besides model and data.
        description: the data: source, split, seed, settings.
        clips: clips evaluated.
        input_frames: frames that the encoder read.
        trained: future frames that the model was built for.
        steps: future frames that were predicted.
        parameters: of the model.
        flops_per_clip: of one forward pass, see :func:`lstmrep.eval.flops_per_clip`.
        clips_per_second: free-running forward passes; 0 where nothing was run (``recompute``).
        device: where they ran.
        notes: one sentence on each column or row that is left out.
        arrays: ``inputs``, ``trues``, ``preds``, ``reconstruction`` (in decode order) and the teacher-forced ones,
            float32 ``[kept clips, frames, *frame]``; ``mean`` where one was given.
    """

    rows: list[Row]
    settings: Settings
    description: str
    clips: int
    input_frames: int
    trained: int
    steps: int
    parameters: int = 0
    flops_per_clip: int = 0
    clips_per_second: float = 0.0
    device: str = ""
    notes: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def loss(self) -> str:
        """The paper's loss of this kind of output, ``"cross_entropy"`` or ``"half_squared_error"``."""
        return self.settings.loss

    @property
    def kept(self) -> int:
        """Clips whose frames are kept."""
        return len(self.arrays["inputs"]) if "inputs" in self.arrays else 0

    def row(self, head: str, name: str) -> Row:
        """The row of this name.

        Raises:
            KeyError: there is none; the sentence lists those there are.
        """
        for row in self.rows:
            if (row.head, row.name) == (head, name):
                return row
        known = ", ".join(f"{row.head}: {row.name}" for row in self.rows)
        raise KeyError(f"lstmrep.eval.Report: no row '{name}' for the {head}; rows are {known}.")

    def first(self, clips: int) -> list[Row]:
        """The rows of the first ``clips`` clips only, to compare with :func:`recompute` where fewer were kept."""
        return [Row(r.head, r.name, {name: v[:clips] for name, v in r.values.items()}) for r in self.rows]

    def blocks(self) -> list[tuple[str, str, int, int]]:
        """The table's parts: title, head, first and last frame. Beyond the trained horizon is a part of its own."""
        found = []
        for head in (RECONSTRUCTION, FUTURE):
            frames = max((row.frames for row in self.rows if row.head == head), default=0)
            if not frames:
                continue
            if head == FUTURE and 0 < self.trained < frames:
                found.append((f"future, frames 1 to {self.trained}, as trained", head, 0, self.trained))
                found.append((f"future, frames {self.trained + 1} to {frames}, beyond", head, self.trained, frames))
            else:
                found.append((f"{head}, {frames} frame{'' if frames == 1 else 's'}", head, 0, frames))
        return found

    def columns(self) -> list[str]:
        """The metrics that are there: the loss first."""
        there = {name for row in self.rows for name in row.values}
        return [name for name in (self.loss, *self.settings.metrics) if name in there]

    def table(self) -> str:
        """The numbers as aligned text: means over clips and frames, the loss with its standard error over clips."""
        lines = [f"{name:<8}{text}" for name, text in self.facts()]
        for title, head, start, stop in self.blocks():
            lines += ["", *aligned([[title, *map(self._title, self.columns())], *self.cells(head, start, stop)])]
        return "\n".join([*lines, *([""] if self.notes else []), *self.notes])

    def facts(self) -> list[tuple[str, str]]:
        """What a reader must know beside the numbers: the data, the model's cost."""
        facts = [("data", self.description or "not described")]
        facts.append(("clips", f"{self.clips:,}; {self.input_frames} frames in, {self.steps} predicted"))
        if self.parameters:
            speed = f", {self.clips_per_second:,.1f} clips/s on {self.device}" if self.clips_per_second else ""
            cost = f"{self.parameters:,} parameters, {_flops(self.flops_per_clip)} a clip"
            facts.append(("model", f"{cost}{speed}"))
        if any("ssim" in row.values for row in self.rows):
            facts.append(("ssim", f"over a range of {self.settings.ssim_range:g}"))
        return facts

    def cells(self, head: str, start: int, stop: int) -> list[list[str]]:
        """The table's text, row by row, for the frames ``start`` to ``stop`` of a head."""
        made = []
        for row in self.rows:
            if row.head != head or row.frames <= start:
                continue
            cells = [row.name + (f" (clamp {self.settings.baseline_clamp:g})" if self._clamped(row) else "")]
            for name in self.columns():
                if name not in row.values:
                    cells.append("-")
                    continue
                text = f"{row.mean(name, start, stop):.{DIGITS.get(name, 2)}f}"
                error = row.error(name, start, stop) if name == self.loss else math.nan
                cells.append(text if math.isnan(error) else f"{text} ± {error:.2f}")
            made.append(cells)
        return made

    def headings(self) -> list[str]:
        """The columns' titles."""
        return [self._title(name) for name in self.columns()]

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``values.npz`` (every clip and frame) and one ``.npy`` for each of ``arrays``.

        Each file is written whole or not at all.

        Args:
            folder: where; it is made.

        Returns:
            The folder.
        """
        folder = Path(folder)
        for name in ARRAYS:
            if name in self.arrays:
                with files.replacing(folder / f"{name}.npy") as path:
                    np.save(path, self.arrays[name], allow_pickle=False)
        with files.replacing(folder / "values.npz") as path:
            values: dict[str, Any] = {
                f"{k}.{name}": v for k, row in enumerate(self.rows) for name, v in row.values.items()
            }
            np.savez(path, **values)
        # Last: a folder that has it has all it names.
        files.write_text(folder / "metrics.json", json.dumps(self._json(), indent=1, allow_nan=False) + "\n")
        return folder

    def _json(self) -> dict[str, Any]:
        head = {name: getattr(self, name) for name in SCALARS}
        rows = [
            {
                "head": row.head,
                "name": row.name,
                "metrics": {
                    name: {
                        "mean": _number(row.mean(name)),
                        "standard_error": _number(row.error(name)),
                        "per_frame": [_number(x) for x in row.curve(name)],
                    }
                    for name in row.values
                },
            }
            for row in self.rows
        ]
        kept = {"kept": self.kept, "arrays": [name for name in ARRAYS if name in self.arrays]}
        return {
            "format": FORMAT,
            **head,
            **kept,
            "settings": asdict(self.settings),
            "unit": UNITS[self.loss],
            "notes": self.notes,
            "rows": rows,
        }

    def _title(self, name: str) -> str:
        return UNITS[name] if name == self.loss else TITLES[name]

    def _clamped(self, row: Row) -> bool:
        return self.loss == CROSS_ENTROPY and row.name in (COPY_LAST, LINEAR)


SCALARS = (
    "description",
    "clips",
    "input_frames",
    "trained",
    "steps",
    "parameters",
    "flops_per_clip",
    "clips_per_second",
    "device",
)


def load(folder: str | Path) -> Report:
    """Read what :meth:`Report.save` wrote; arrays are mapped from their files, not read.

    Args:
        folder: the folder.

    Returns:
        The report.

    Raises:
        FileNotFoundError, ValueError: no report is there, or one of another format.
    """
    folder = Path(folder)
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep.eval.load: no file {path}; pass a folder that Report.save wrote.")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        raise ValueError(
            f"lstmrep.eval.load: {path} has the format {found.get('format')!r}, expected {FORMAT}; evaluate again."
        )
    settings = Settings(**{**found["settings"], "metrics": tuple(found["settings"]["metrics"])})
    with np.load(folder / "values.npz", allow_pickle=False) as values:
        rows = [
            Row(r["head"], r["name"], {name: values[f"{k}.{name}"] for name in r["metrics"]})
            for k, r in enumerate(found["rows"])
        ]
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in found["arrays"]}
    scalars = {name: found[name] for name in SCALARS}
    return Report(rows=rows, settings=settings, notes=found["notes"], arrays=arrays, **scalars)


def _flops(count: int) -> str:
    power, unit = next(((p, u) for p, u in ((12, "TFLOP"), (9, "GFLOP"), (6, "MFLOP")) if count >= 10**p), (3, "kFLOP"))
    return f"{count / 10**power:.1f} {unit}"


def _number(x: float) -> float | str | None:
    """A number as strict JSON has it: infinities as text, NaN (no such number) as null."""
    if math.isnan(x):
        return None
    return float(x) if math.isfinite(x) else ("inf" if x > 0 else "-inf")


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of text: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
