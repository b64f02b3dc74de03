"""Ways through this library: what it chooses, or one kernel that is forced."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from lstmrep.ops import plans
from lstmrep.plan import CUDA_KERNELS
from lstmrep.planner.triton import TRITON_KERNELS


@dataclass
class Way:
    """One way through this library.

    Args:
        label: as the table names it.
        backend: what the module is told.
        inside: entered around every call, for a kernel that is forced by the environment.
    """

    label: str
    backend: str = "auto"
    inside: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


def ways(device: torch.device, triton: bool = False) -> list[Way]:
    """What it chooses, and on CUDA each kernel that may run.

    Args:
        device: where.
        triton: Triton's kernels too, each of which takes seconds to compile.
    """
    if device.type == "cpu":
        return [Way("lstmrep")]
    made = [Way("lstmrep", "cuda"), *(kernel_way(name) for name in CUDA_KERNELS if name != "auto")]
    return made + [triton_way(name) for name in TRITON_KERNELS if triton and name != "auto"]


def kernel_way(kernel: str) -> Way:
    """By one kernel of the cuda backend."""
    return Way(f"lstmrep, {kernel}", "cuda", functools.partial(forced, kernel))


def triton_way(kernel: str) -> Way:
    """By one kernel of the triton backend."""
    return Way(f"lstmrep, triton {kernel}", "triton", functools.partial(forced, kernel, "LSTMREP_TRITON_KERNEL"))


@contextlib.contextmanager
def forced(kernel: str, variable: str = "LSTMREP_CUDA_KERNEL") -> Iterator[None]:
    """Inside the block ``variable`` is ``kernel``; plans made otherwise are forgotten, before and after.

    Args:
        kernel: a value of the variable.
        variable: which says what kernel a backend may run.
    """
    before = os.environ.get(variable)
    os.environ[variable] = kernel
    plans.reset_plans()
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before
        plans.reset_plans()
