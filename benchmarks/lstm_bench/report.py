"""Rows as lines on a terminal, as CSV, as Markdown; each file is written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lstmrep.files import write_text

FILES = ("bench.csv", "bench.md")
PLAIN = "lstmrep, no peepholes"  # what a layer with peepholes is also compared with


@dataclass(frozen=True)
class Row:
    """One contender in one pass of one problem. Times are milliseconds a call.

    Args:
        problem, dtype, passes: what was run.
        backend: the contender.
        plan: what this library ran, in short.
        launches: kernels, or on a CPU calls of this library's kernels and of torch operations that compute; -1 where
            they cannot be counted.
        median, p20, p80: over rounds; 0 where there is no time.
        ratio: to the baseline, the median over rounds; 0 where there is none.
        floor: of the problem and pass.
        rounds, calls: that were timed, and calls in each.
        note: why there is no time, or ``""``.
        wrong: the gate refused it.
    """

    problem: str
    dtype: str
    passes: str
    backend: str
    plan: str = ""
    launches: int = -1
    median: float = 0.0
    p20: float = 0.0
    p80: float = 0.0
    ratio: float = 0.0
    floor: float = 0.0
    rounds: int = 0
    calls: int = 0
    note: str = ""
    wrong: bool = False

    def cells(self) -> list[str]:
        """As the table shows it."""
        first = [self.problem, self.dtype, self.passes, self.backend, self.plan]
        if not self.median:
            return [*first, "", f"no time: {self.note}", "", ""]
        return [
            *first,
            str(self.launches) if self.launches >= 0 else "-",
            f"{figures(self.median)} ({figures(self.p20)}-{figures(self.p80)})",
            f"{self.ratio:.2f}" if self.ratio else "-",
            f"{100 * self.floor / self.median:.0f} %",
        ]


COLUMNS = ("problem", "dtype", "pass", "backend", "plan", "launches", "ms, median (p20-p80)", "ratio", "% of floor")
WIDTHS = (46, 8, 16, 29, 18, 8, 26, 6, 10)


def figures(ms: float) -> str:
    """Three significant figures or whole milliseconds."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def line(cells: Sequence[str]) -> str:
    """Cells in columns of the terminal's table; one that is too wide pushes the others."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def save(folder: Path, head: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Write FILES; returns where they are."""
    files = [folder / name for name in FILES]
    write_csv(files[0], rows)
    write_markdown(files[1], head, rows, verdict(rows))
    return [str(file) for file in files]


def summary(rows: Sequence[Row]) -> list[str]:
    """What this library chose in a table of Markdown, a problem a line: milliseconds, and the ratio to the baseline."""
    own = {(r.problem, r.dtype, r.passes): r for r in rows if r.backend == "lstmrep" and r.ratio}
    baseline = {r.problem: r.backend for r in reversed(rows) if r.ratio and r.problem in {key[0] for key in own}}
    columns = list(dict.fromkeys((r.dtype, r.passes) for r in own.values()))
    table = [["problem", "baseline", *(f"{dtype}, {passes}" for dtype, passes in columns)]]
    table.append(["---"] * len(table[0]))
    for problem in dict.fromkeys(r.problem for r in own.values()):
        cells = []
        for column in columns:
            row = own.get((problem, *column))
            cells.append(f"{figures(row.median)} ms, {row.ratio:.2f}" if row else "")
        table.append([f"`{problem}`", baseline[problem], *cells])
    return ["| " + " | ".join(line) + " |" for line in table]


def peephole_costs(rows: Sequence[Row]) -> list[str]:
    """The time of layers with peepholes over that of the same without, a line each; none where none was timed."""
    plain = {(r.problem, r.dtype, r.passes): r.median for r in rows if r.backend == PLAIN and r.median}
    own = [r for r in rows if r.backend == "lstmrep" and (r.problem, r.dtype, r.passes) in plain]
    lines = [
        f"- `{r.problem}`, {r.dtype}, {r.passes}: {r.median / plain[r.problem, r.dtype, r.passes]:.2f}" for r in own
    ]
    return ["", "With peepholes over without:", "", *lines] if lines else []


def read_csv(file: Path) -> list[Row]:
    """What ``write_csv`` wrote."""
    kinds = {f.name: f.type for f in fields(Row)}
    read = {"str": str, "int": int, "float": float, "bool": lambda text: text == "True"}
    with file.open(newline="", encoding="utf-8") as lines:
        return [Row(**{k: read[str(kinds[k])](v) for k, v in row.items()}) for row in csv.DictReader(lines)]


def write_csv(file: Path, rows: Sequence[Row]) -> None:
    """All fields of all rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(file, text.getvalue())


def write_markdown(file: Path, head: Sequence[str], rows: Sequence[Row], last: str) -> None:
    """The head's lines and the verdict as a list, the summary, the table."""
    cells = [[cell.replace("|", "\\|") for cell in row.cells()] for row in rows]
    table = [list(COLUMNS), ["---"] * len(COLUMNS), *cells]
    lines = ["# LSTM benchmark", "", *(f"- {text}" for text in head), f"- {last}", ""]
    lines += [
        "`lstmrep`, and its time over the baseline's:",
        "",
        *summary(rows),
        *peephole_costs(rows),
        "",
        "All rows:",
        "",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    write_text(file, "\n".join([*lines, ""]))


def verdict(rows: Sequence[Row]) -> str:
    """One sentence on the whole run."""
    timed, wrong = sum(r.median > 0 for r in rows), sum(r.wrong for r in rows)
    absent = len(rows) - timed - wrong
    gate = "all of them passed the gate" if not wrong else f"{wrong} REFUSED by the gate"
    return f"{timed} rows timed, {gate}" + (f"; {absent} could not run" if absent else "")
