"""Builds csrc/cuda for the emulated device: the sources that nvcc compiles, as plain C++ over the emulator.

Three builds: ``plain``, ``tsan`` (data races, with every CUDA thread a thread of its own) and ``asan`` (addresses and
undefined behaviour).  ``module()`` is the plain build as a Python module with the CUDA entries of ``lstmrep._native``;
the sanitizers run in a program of their own (driver.py).  What is built is kept under build/emulator by a hash of all
that went into it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
BUILDS = ("plain", "tsan", "asan")
# The emulator itself, not watched by the sanitizers: its data are shared by all CUDA threads on purpose.
RUNTIME = ("fiber.cpp", "grid.cpp", "collective.cpp", "card.cpp")
WATCHED = ("copies.cpp",)

COMMON = ["-std=c++17", "-g", "-fPIC", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
# Without this the optimizer turns copy loops into memcpy, which the sanitizers watch wherever it is called from.
UNWATCHED = ["-O1", "-fno-tree-loop-distribute-patterns"]
OPTIMIZE = {"plain": ["-O2"], "tsan": ["-O1"], "asan": ["-O1"]}
SANITIZE = {
    "plain": [],
    "tsan": ["-fsanitize=thread"],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
}
MARK = {"plain": [], "tsan": ["-DEMULATOR_TSAN"], "asan": ["-DEMULATOR_ASAN"]}


def compiler() -> list[str] | None:
    """The C++ compiler as a command, or None."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    found = shutil.which("g++") or shutil.which("clang++")
    return [found] if found else None


def reason() -> str:
    """``""`` when the emulator can be built here, else why not."""
    if platform.machine() != "x86_64":
        return "the emulator's context switch is written for x86-64"
    return "" if compiler() else "no C++ compiler: the emulated device cannot be built"


def kernel_sources(csrc: Path = ROOT / "csrc") -> list[Path]:
    """The .cu files of the package."""
    return sorted((csrc / "cuda").rglob("*.cu"))


def _hash(csrc: Path, extra: list[Path], flags: str) -> str:
    digest = hashlib.sha256(flags.encode())
    files = [p for folder in (csrc, FOLDER) for p in folder.rglob("*") if p.suffix in (".h", ".cuh", ".cu", ".cpp")]
    for path in sorted({*files, *extra}):
        digest.update(str(path.name).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the emulated device does not compile: {shlex.join(command)}\n{result.stderr}")


def build(
    build: str,
    sources: list[Path],
    *,
    csrc: Path = ROOT / "csrc",
    shared: bool = False,
    suffix: str = "",
    includes: tuple[str, ...] = (),
) -> Path:
    """Compile ``sources`` with the emulator.

    Args:
        build: ``"plain"`` | ``"tsan"`` | ``"asan"``.
        sources: files compiled as plain C++ and, under a sanitizer, watched.
        csrc: the tree of kernels, another one than the package's for planted bugs.
        shared: a shared library instead of a program.
        suffix: of the file that is made.
        includes: more include folders.

    Returns:
        The library or program.
    """
    command = compiler()
    if command is None:
        raise RuntimeError(reason())
    flags = [*COMMON, *MARK[build], f"-I{FOLDER / 'include'}", f"-I{FOLDER}", f"-I{csrc}"]
    flags += [f"-I{folder}" for folder in includes]
    key = _hash(csrc, sources, " ".join([*command, build, *flags, suffix, *map(str, sources)]))
    name = sources[0].stem
    target = ROOT / "build" / "emulator" / f"{name}-{build}-{key}{'/' + suffix if suffix else ''}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        jobs, objects = [], []
        watched = [*sources, *(FOLDER / f for f in WATCHED)]
        for path in [*watched, *(FOLDER / f for f in RUNTIME)]:
            obj = Path(folder, f"{path.parent.name}_{path.stem}.o")
            how = [*OPTIMIZE[build], *SANITIZE[build]] if path in watched else UNWATCHED
            jobs.append([*command, *flags, *how, "-x", "c++", "-c", str(path), "-o", str(obj)])
            objects.append(str(obj))
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            list(pool.map(_run, jobs))
        made = Path(folder, "made")
        _run([*command, *SANITIZE[build], *(["-shared"] if shared else []), *objects, "-o", str(made)])
        made.replace(target)  # whole or not at all, also when two processes build it
    return target


@functools.cache
def module() -> ModuleType:
    """The emulated device: ``cuda_*`` as in ``lstmrep._native``, and ``set_card``, ``set_seed``, ``take_launches``."""
    import pybind11

    includes = (pybind11.get_include(), sysconfig.get_path("include"))
    file = "_emulated" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
    sources = [FOLDER / "module.cpp", *kernel_sources()]
    path = build("plain", sources, shared=True, suffix=file, includes=includes)
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
