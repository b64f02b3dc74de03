"""Runs a stage in a process of its own: a crash, a hang or a broken CUDA context stays there.

    python -m gpu_stages.apart MODULE:FUNCTION RECORD [--emulated]

is that process; ``run_stage`` starts it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_stages.record import Record, Result, result

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT, ROOT / "benchmarks", ROOT / "tests", ROOT / "tests" / "emulator"]


@dataclass(frozen=True)
class Stage:
    """One stage: its name, ``"module:function"``, what it shows, the seconds after which it is cut off, and whether it
    needs the card for itself."""

    name: str
    target: str
    shows: str
    limit: float
    alone: bool = False


def environment(cache: Path) -> dict[str, str]:
    """The environment of stages: the checkout's modules, no setting of the caller's that changes what runs.

    Args:
        cache: folder for verdicts; the user's own are neither believed nor written to.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LSTMREP_")}
    paths = [*map(str, FOLDERS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "LSTMREP_CACHE_DIR": str(cache),
        # Stages that ask for the check set it themselves.
        "LSTMREP_VERIFY": "never",
    }


def run_stage(stage: Stage, emulated: bool, most_seconds: float | None = None) -> Result:
    """Run a stage to its end or its limit.

    Args:
        stage: which.
        emulated: on the emulated device.
        most_seconds: a limit for any stage; default: the stage's own.

    Returns:
        Its result, whatever happened to its process.
    """
    limit = stage.limit if most_seconds is None else min(stage.limit, most_seconds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        record, log = Path(folder, "record.json"), Path(folder, "log")
        command = [sys.executable, "-m", "gpu_stages.apart", stage.target, str(record)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *(["--emulated"] if emulated else [])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(Path(folder, "cache")),
                start_new_session=True,  # so that what the stage starts is ended with it
            )
            try:
                trouble = _ending(process.wait(timeout=limit))
            except subprocess.TimeoutExpired:
                trouble = f"cut off after its limit of {limit:g} s"
            finally:
                _end(process)
        text = log.read_text(encoding="utf-8", errors="replace")
        return result(stage.name, record, time.monotonic() - began, trouble, text)


def _ending(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the stage's own session. A process stuck in the driver may not go: it is then left, not waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def main(arguments: list[str]) -> int:
    """The stage's process: calls the function with a setup and a record."""
    from gpu_stages.setup import Setup

    target, file, *flags = arguments
    module, _, function = target.partition(":")
    record = Record(Path(file))
    with record.part("the stage", listed=False, counted=False):
        getattr(importlib.import_module(module), function)(Setup(emulated="--emulated" in flags), record)
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
