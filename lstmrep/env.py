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
    "LSTMREP_BACKEND": (
        "run",
        "auto | cuda | triton | cpu | reference",
        "auto",
        "backend used where a call says 'auto'",
    ),
    "LSTMREP_CUDA_KERNEL": (
        "plan",
        "auto | cta_resident | grid_resident | stepwise",
        "auto",
        "the one kernel that the cuda backend may run",
    ),
    "LSTMREP_TRITON_KERNEL": (
        "plan",
        "auto | batch_held | grid_persistent | batch_walked | fused_step | stepwise",
        "auto",
        "the one kernel that the triton backend may run",
    ),
    "LSTMREP_RESERVE_SMS": (
        "plan",
        "a number",
        "0",
        "multiprocessors that kernels whose CTAs wait for each other leave free, for NCCL and other programs",
    ),
    "LSTMREP_SPIN_SECONDS": (
        "run",
        "a number",
        "10",
        "how long such a kernel waits for its other CTAs before it gives up; 0: for ever (under compute-sanitizer)",
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
    "LSTMREP_CPU_ISA": (
        "load",
        "baseline | avx2 | avx512 | avx512_bf16 | amx",
        "best usable",
        "instruction set of the CPU kernels",
    ),
    "LSTMREP_POISON": ("import", "1 | 0", "0", "fill outputs and workspaces with NaN before each kernel (debugging)"),
}


def backend() -> str:
    """The backend named by LSTMREP_BACKEND, or ``"auto"``."""
    return os.environ.get("LSTMREP_BACKEND", "auto")


def cuda_kernel() -> str:
    """The CUDA kernel named by LSTMREP_CUDA_KERNEL, or ``"auto"``."""
    return os.environ.get("LSTMREP_CUDA_KERNEL", "auto")


def triton_kernel() -> str:
    """The Triton kernel named by LSTMREP_TRITON_KERNEL, or ``"auto"``."""
    return os.environ.get("LSTMREP_TRITON_KERNEL", "auto")


def reserved_sms() -> int:
    """Multiprocessors that LSTMREP_RESERVE_SMS keeps free.

    Raises:
        ValueError: it is not a whole number of at least 0.
    """
    value = os.environ.get("LSTMREP_RESERVE_SMS", "0")
    if not value.isdecimal():
        raise ValueError(f"lstmrep: LSTMREP_RESERVE_SMS={value!r} is not a number; give a whole number of SMs.")
    return int(value)


def spin_nanoseconds() -> int:
    """Longest wait of a CTA for the others, as LSTMREP_SPIN_SECONDS says, in nanoseconds; 0 for no bound.

    Raises:
        ValueError: it is not a number of at least 0.
    """
    value = os.environ.get("LSTMREP_SPIN_SECONDS", "10")
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(f"lstmrep: LSTMREP_SPIN_SECONDS={value!r} is not a number of seconds; give 0 or more.")
    return round(seconds * 1e9)


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
