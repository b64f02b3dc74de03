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


def ways(device: torch.device) -> list[Way]:
    """What it chooses, and on CUDA each kernel that may run."""
    if device.type == "cpu":
        return [Way("lstmrep")]
    return [
        Way("lstmrep" if kernel == "auto" else f"lstmrep, {kernel}", "cuda", functools.partial(forced, kernel))
        for kernel in CUDA_KERNELS
    ]


@contextlib.contextmanager
def forced(kernel: str) -> Iterator[None]:
    """Inside the block LSTMREP_CUDA_KERNEL is ``kernel``; plans made otherwise are forgotten, before and after."""
    before = os.environ.get("LSTMREP_CUDA_KERNEL")
    os.environ["LSTMREP_CUDA_KERNEL"] = kernel
    plans.reset_plans()
    try:
        yield
    finally:
        os.environ.pop("LSTMREP_CUDA_KERNEL")
        if before is not None:
            os.environ["LSTMREP_CUDA_KERNEL"] = before
        plans.reset_plans()
