"""Builds and runs ``driver.cpp``: one kernel over the emulated device in a program, plain or under a sanitizer."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import emulated

SOURCE = Path(__file__).with_name("driver.cpp")
SETTINGS = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
SEEDS = (0, 1)
SECONDS = 300


@dataclass(frozen=True)
class Result:
    """Of one run: the exit code, the line with the checksum, and what is on stderr."""

    code: int
    line: str
    errors: str


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, **SETTINGS}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=settings, timeout=SECONDS)


@functools.cache
def start(build: str) -> tuple[tuple[str, ...], str]:
    """What a program of this build is started with, and ``""`` or why none can be built or started here."""
    if emulated.reason():
        return (), emulated.reason()
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "empty.cpp"), Path(folder, "empty")
        source.write_text("int main() { return 0; }\n")
        compiled = _run([*(emulated.compiler() or []), *emulated.SANITIZE[build], str(source), "-o", str(made)])
        if compiled.returncode:
            return (), f"the C++ compiler has no runtime for the {build} build"
        # ThreadSanitizer refuses to start where the kernel lays memory out too randomly for its shadow.
        setarch = shutil.which("setarch")
        for prefix in ((), (setarch, "-R")) if setarch else ((),):
            if _run([*prefix, str(made)]).returncode == 0:
                return prefix, ""
    return (), f"a program of the {build} build does not start on this machine, nor under setarch -R"


@functools.cache
def program(build: str) -> Path:
    """The driver with all kernels of the package."""
    return emulated.build(build, [SOURCE, *emulated.kernel_sources()])


def run(build: str, made: Path, arguments: str, seed: int) -> Result:
    """Run ``made``, a driver of this build, with the arguments up to the seed."""
    done = _run([*start(build)[0], str(made), *arguments.split(), str(seed)])
    return Result(done.returncode, done.stdout.strip(), done.stderr.strip())
