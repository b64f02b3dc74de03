"""The report: one Markdown file, a table of the stages, then each stage's details."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from gpu_stages.apart import ROOT, Stage
from gpu_stages.record import FAILED, PASSED, SKIPPED, Result
from lstmrep.files import write_text


def default_file(card: str, now: datetime) -> Path:
    """``benchmarks/results/gpu-check-<card>-<date>.md``."""
    word = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-") or "unknown-card"
    return ROOT / "benchmarks" / "results" / f"gpu-check-{word}-{now:%Y%m%d-%H%M%S}.md"


def verdict(results: list[Result], planned: int) -> str:
    """One sentence on the whole run."""
    count = {status: sum(r.status == status for r in results) for status in (PASSED, FAILED, SKIPPED)}
    text = f"{count[PASSED]} stages passed, {count[FAILED]} failed, {count[SKIPPED]} skipped"
    if len(results) < planned:
        return f"UNFINISHED: {text}, {planned - len(results)} not yet run"
    return f"{'PASSED' if passed(results) else 'FAILED' if count[FAILED] else 'NOTHING CHECKED'}: {text}"


def passed(results: list[Result]) -> bool:
    """Whether something was shown and nothing failed."""
    statuses = {r.status for r in results}
    return PASSED in statuses and FAILED not in statuses


def write(file: Path, stages: list[Stage], results: list[Result], emulated: bool, now: datetime) -> None:
    """Write the report of what has run so far, whole or not at all.

    Args:
        file: where to.
        stages: all that are to run.
        results: of those that ran, in order.
        emulated: say that no GPU was used.
        now: when the run started.
    """
    facts = {key: value for r in results for key, value in r.facts.items()}
    lines = [f"# GPU check: {facts.get('card', 'unknown card')}", ""]
    if emulated:
        lines += [
            "**EMULATED: no GPU was used. This shows that the check itself works, and nothing about a card.**",
            "",
        ]
    lines += [f"{verdict(results, len(stages))}. Started {now:%Y-%m-%d %H:%M} UTC.", ""]
    lines += ["| stage | status | seconds | shows | remark |", "|---|---|---|---|---|"]
    ran = {r.name: r for r in results}
    for stage in stages:
        r = ran.get(stage.name)
        cells = [stage.name, r.status, f"{r.seconds:.1f}", stage.shows, r.reason] if r else None
        cells = cells or [stage.name, "not run", "", stage.shows, ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for r in results:
        lines += ["", f"## {r.name}: {r.status}", "", r.text]
    write_text(file, _without_places("\n".join(lines) + "\n"))


def _without_places(text: str) -> str:
    """Without the folders of this machine: the report is sent to others."""
    for place, name in ((str(ROOT), "."), (str(Path.home()), "~")):
        if len(place) > 1:
            text = text.replace(place, name)
    return text


def started() -> datetime:
    """Now, in UTC."""
    return datetime.now(timezone.utc)
