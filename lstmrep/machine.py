"""Collects what the planner must know about this machine: the native module, the CPU, the CUDA device."""

from __future__ import annotations

import functools

import torch

from lstmrep import native
from lstmrep.plan import Machine


@functools.cache
def _cuda_reason() -> str:
    if native.reason():
        return native.reason()
    if not torch.cuda.is_available():
        return "torch.cuda.is_available() is False"
    return str(native.module().cuda_status())


def current(device: torch.device | str = "cpu") -> Machine:
    """The machine as seen now.

    Args:
        device: the torch device a problem runs on; a CUDA device adds its name.

    Returns:
        A :class:`lstmrep.plan.Machine`. ``threads`` follows ``torch.get_num_threads()``.
    """
    device = torch.device(device)
    why = native.reason()
    gpu = ""
    if device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        gpu = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})"
    return Machine(
        native=why,
        cuda=_cuda_reason(),
        isa="" if why else native.module().cpu_isa(),
        threads=torch.get_num_threads(),
        gpu=gpu,
    )


def reset() -> None:
    """Forget what was found (for tests that change the machine)."""
    _cuda_reason.cache_clear()
