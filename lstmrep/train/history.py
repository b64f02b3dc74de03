"""The curve of a run: records in memory and, with a path, one JSON line each in ``history.jsonl``."""

from __future__ import annotations

import json
import os
from pathlib import Path

Record = dict[str, float]


class History:
    """Records in the order of their steps.

    Args:
        path: file to hold them, or none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: list[Record] = []

    def start(self, count: int) -> int:
        """Keep the first ``count`` records of the file and drop what was written after them.

        Returns:
            How many were there: less than ``count`` where lines were lost.
        """
        if self.path is None:
            return count
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept, end = _parsed(self.path, count)
        self.records = kept
        if self.path.exists():
            os.truncate(self.path, end)
        return len(kept)

    def append(self, record: Record) -> None:
        """Add a record; the line is in the file when this returns."""
        self.records.append(record)
        if self.path is not None:
            # Written at the end, not replaced whole: a line torn by a kill is dropped when the run goes on.
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def sync(self) -> None:
        """The file is on the disk when this returns, so no checkpoint is ahead of it after a power cut."""
        if self.path is not None and self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())


def read_history(path: str | Path) -> list[Record]:
    """The records of a ``history.jsonl``, or of the run in a folder; a last line that was cut short is left out.

    Args:
        path: the file, or the folder that a run was given as ``out``.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = Path(path)
    path = path / "history.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep.train.read_history: no file {path}; check argument 'path'.")
    return _parsed(path, None)[0]


def _parsed(path: Path, count: int | None) -> tuple[list[Record], int]:
    """Whole records, and where the last of them ends."""
    records: list[Record] = []
    end = 0
    for raw in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        if len(records) == count or not raw.endswith(b"\n"):
            break
        try:
            record = json.loads(raw)
        except ValueError:
            break
        records.append(record)
        end += len(raw)
    return records, end
