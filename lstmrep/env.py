"""Every environment variable that lstmrep reads, in one place (docs/environment.md is the same table).

Build-time variables are read by setup.py, which cannot import this package; they are listed here so that the
table is complete.  Variables marked "run" are read at each use, so a notebook can change them; "import" when the
package is imported; "load" when the compiled module is first used; "plan" when a problem is first planned or its plan
first runs.
"""

from __future__ import annotations

import os
from pathlib import Path

# name -> (when it is read, accepted values, default, meaning)
VARIABLES: dict[str, tuple[str, str, str, str]] = {
    "LSTMREP_NATIVE": ("build", "1 | 0", "1", "0 installs without the compiled module (reference backend only)"),
    "LSTMREP_CUDA": ("build", "auto | 1 | 0", "auto", "compile the CUDA kernels: when an nvcc is found, always, never"),
    "LSTMREP_CUDA_ARCHS": ("build", "list like 80;90", "80;90;100;120", "architectures that get machine code"),
    "LSTMREP_BACKEND": ("run", "auto | cuda | cpu | reference", "auto", "backend used where a call says 'auto'"),
    "LSTMREP_CUDA_KERNEL": (
        "plan",
        "auto | cta_resident | stepwise",
        "auto",
        "the one kernel that the cuda backend may run",
    ),
    "LSTMREP_VERIFY": (
        "plan",
        "first-use | always | never",
        "first-use",
        "check a CUDA kernel against stepwise: once on each card and size, at every call, not at all",
    ),
    "LSTMREP_CACHE_DIR": (
        "run",
        "a folder",
        "$XDG_CACHE_HOME/lstmrep, else ~/.cache/lstmrep",
        "where verdicts of those checks are kept",
    ),
    "LSTMREP_CPU_ISA": ("load", "baseline | avx2 | avx512", "best usable", "instruction set of the CPU kernels"),
    "LSTMREP_POISON": ("import", "1 | 0", "0", "fill outputs and workspaces with NaN before each kernel (debugging)"),
}


def backend() -> str:
    """The backend named by LSTMREP_BACKEND, or ``"auto"``."""
    return os.environ.get("LSTMREP_BACKEND", "auto")


def cuda_kernel() -> str:
    """The CUDA kernel named by LSTMREP_CUDA_KERNEL, or ``"auto"``."""
    return os.environ.get("LSTMREP_CUDA_KERNEL", "auto")


def verify() -> str:
    """When CUDA kernels are checked, as LSTMREP_VERIFY says: ``"first-use"``, ``"always"`` or ``"never"``.

    Raises:
        ValueError: another value is set.
    """
    value = os.environ.get("LSTMREP_VERIFY", "first-use")
    if value not in ("first-use", "always", "never"):
        raise ValueError(f"lstmrep: LSTMREP_VERIFY={value!r} is not known; choose one of first-use, always, never.")
    return value


def cache_folder() -> Path:
    """The folder named by LSTMREP_CACHE_DIR, or the user's cache folder for lstmrep; it need not exist.

    Raises:
        RuntimeError: nothing tells where the user's home is.
    """
    named = os.environ.get("LSTMREP_CACHE_DIR", "")
    if named:
        return Path(named).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if caches else Path.home() / ".cache") / "lstmrep"


def cpu_isa() -> str:
    """The instruction set named by LSTMREP_CPU_ISA, or ``""`` for the best usable one."""
    return os.environ.get("LSTMREP_CPU_ISA", "")


def poison() -> bool:
    """Whether fresh buffers are filled with NaN."""
    return os.environ.get("LSTMREP_POISON", "0") == "1"
