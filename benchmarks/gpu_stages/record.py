"""What a stage found so far, on disk after every addition: a stage that crashes or is cut off leaves all it had."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lstmrep.files import write_text

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"
LONGEST = 200  # characters of a reason in the summary


class SkipError(Exception):
    """Raised inside a part that cannot run here; the message is the reason."""


@dataclass
class Result:
    """What the report says of one stage.

    Args:
        name: of the stage.
        status: ``"passed"`` | ``"FAILED"`` | ``"skipped"``.
        reason: one sentence for the summary; why, where it was skipped or failed.
        seconds: that it took.
        text: Markdown, the details.
        facts: what other stages' texts or the file name need.
    """

    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    text: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Found:
    parts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False


class Record:
    """A stage writes here. Nothing is judged by a stage itself: its status follows from its parts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found = _Found()
        self._save()

    def say(self, *lines: str) -> None:
        """Add lines of Markdown to the details."""
        self._found.lines += lines
        self._save()

    def _ended(self, *lines: str) -> None:
        # Apart from what is said, where they could stand in the middle of a table.
        self._found.parts += lines
        self._save()

    def table(self, *columns: str) -> None:
        """Start a table; its rows are added by ``row``."""
        self.say("", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns))

    def row(self, *cells: object) -> None:
        """Add a row to the table that was started last."""
        self.say("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")

    def fact(self, name: str, value: Any) -> None:
        """Leave a value for the report's head."""
        self._found.facts[name] = value
        self._save()

    @contextmanager
    def part(self, name: str, listed: bool = True, counted: bool = True) -> Iterator[None]:
        """One part that passes, fails by an exception, or is skipped by :class:`SkipError`.

        Later parts run all the same.

        Args:
            name: says what is shown when it passes.
            listed: give it a line of its own when it passed; failures and skips always have one.
            counted: its end without an error shows something; if not, only failures and skips are kept.
        """
        try:
            yield
        except SkipError as why:
            self._found.skips.append(f"{name}: {why}")
            self._ended(f"- skipped: {name}: {why}")
        except Exception as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            self._found.failures.append(f"{name}: {type(error).__name__}: {first}")
            self._ended(f"- FAILED: {name}: {type(error).__name__}: {first}", "", *_fenced(traceback.format_exc()), "")
        else:
            self._found.passed += counted
            if listed:
                self._ended(f"- passed: {name}")
            else:
                self._save()

    def finish(self) -> None:
        """The stage came to its end."""
        self._found.finished = True
        self._save()

    def _save(self) -> None:
        write_text(self._file, json.dumps(asdict(self._found)))


def _fenced(text: str) -> list[str]:
    return ["```", *text.rstrip().splitlines(), "```"]


def _short(reasons: list[str]) -> str:
    """The first of some reasons, as much as a table's cell holds; the details have all of them whole."""
    first = reasons[0] if len(reasons[0]) <= LONGEST else reasons[0][:LONGEST] + "..."
    return first + (f" (and {len(reasons) - 1} more)" if reasons[1:] else "")


def result(name: str, file: Path, seconds: float, trouble: str, output: str) -> Result:
    """The result of a stage from what it left on disk.

    Args:
        name: of the stage.
        file: that the stage's :class:`Record` wrote to; it need not exist.
        seconds: that the stage took.
        trouble: how its process ended where that is a failure by itself, or ``""``.
        output: what the process printed; shown where it failed.

    Returns:
        Failed where the process or a part failed, or nothing was shown; skipped where all parts were skipped.
    """
    try:
        found = _Found(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        found = _Found()
        trouble = trouble or "its process left nothing"
    if not trouble and not found.finished:
        trouble = "its process ended before the stage did"
    failures = [*([trouble] if trouble else []), *found.failures]
    lines = [*found.parts, "", *found.lines]
    if failures:
        status, reason = FAILED, _short(failures)
        if output.strip():
            lines += ["", "What it printed last:", "", *_fenced("\n".join(output.splitlines()[-40:]))]
    elif found.passed:
        status = PASSED
        reason = f"{found.passed} parts passed" + (f", {len(found.skips)} skipped" if found.skips else "")
    elif found.skips:
        status, reason = SKIPPED, _short(found.skips)
    else:
        status, reason = FAILED, "nothing was checked"
    return Result(name, status, reason, seconds, "\n".join(lines).strip(), found.facts)
