"""What checks of CUDA kernels found, by key: in memory, and in a file that all processes of a user share.

The file is a cache.  One that cannot be read counts as empty and one that cannot be written is done without, silently:
both cost only another check.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import IO, NamedTuple

from lstmrep import env
from lstmrep.files import write_text

try:
    import fcntl
except ImportError:  # not on Windows; there two writers at once may lose a verdict
    fcntl = None  # type: ignore[assignment]

FILE = "verdicts.json"
FORM = 1  # of the file
MOST = 4096  # entries of the file; the oldest go first
PATIENCE = 1.0  # seconds that a writer waits for another one


class Verdict(NamedTuple):
    """Of one check: whether the kernel agreed with stepwise, and the figures as text."""

    right: bool
    figures: str


class Verdicts:
    """A dictionary from key to :class:`Verdict`, kept in memory and in the file.

    Where two processes found different things, the mismatch is believed: a kernel that is wrong now and then is wrong.
    """

    def __init__(self) -> None:
        self._known: dict[str, Verdict] = {}

    def get(self, key: str) -> Verdict | None:
        """The verdict on ``key``, or none. Asks the file when it is not in memory: another process may have checked."""
        if key not in self._known:
            self._known = _merged(stored(), self._known)
        return self._known.get(key)

    def put(self, key: str, verdict: Verdict, keep: bool = True) -> None:
        """Remember a verdict, and write it to the file unless ``keep`` is false."""
        self._known[key] = verdict
        if keep:
            with contextlib.suppress(OSError):
                _write({key: verdict})

    def clear(self) -> None:
        """Forget what is in memory; the file stays."""
        self._known.clear()


def place() -> Path | None:
    """The file, which need not exist; none where nothing tells where the user's home is."""
    try:
        return env.cache_folder() / FILE
    except RuntimeError:
        return None


def stored() -> dict[str, Verdict]:
    """What is in the file; nothing when it is absent, of another form or not readable."""
    file = place()
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["form"] != FORM:
            return {}
        return {str(k): Verdict(bool(v["right"]), str(v["figures"])) for k, v in found["verdicts"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _merged(old: dict[str, Verdict], new: dict[str, Verdict]) -> dict[str, Verdict]:
    mismatches = {key: v for key, v in old.items() if not v.right}
    return {**old, **new, **mismatches}


def _write(new: dict[str, Verdict]) -> None:
    target = place()
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{FILE}.lock").open("a") as lock:
        _wait_for(lock)
        verdicts = list(_merged(stored(), new).items())[-MOST:]
        text = json.dumps({"form": FORM, "verdicts": {k: v._asdict() for k, v in verdicts}}, indent=1)
        write_text(target, text + "\n")


def _wait_for(lock: IO[str]) -> None:
    """Hold the lock until the file is closed. After some time go on without: what is lost then is checked again."""
    if fcntl is None:
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.005)
