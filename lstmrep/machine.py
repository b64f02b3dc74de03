"""Collects what the planner must know about this machine: the native module, the CPU, the CUDA device."""

from __future__ import annotations

import functools
import os
import sys
from importlib import metadata

import torch

from lstmrep import env, native
from lstmrep.plan import Card, Machine
from lstmrep.planner.cards import card_for


@functools.cache
def _cuda_reason() -> str:
    if native.reason():
        return native.reason()
    if not torch.cuda.is_available():
        return "torch.cuda.is_available() is False"
    return str(native.module().cuda_status())


OLDEST_TRITON = (3, 4)


@functools.cache
def _triton() -> tuple[str, bool]:
    """Why Triton kernels cannot run, or "", and whether its interpreter is on. Does not import triton: that is slow."""
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "triton is not installed; run pip install triton, or install lstmrep with its extra [triton]", False
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"triton {version} is older than {oldest}; run pip install -U triton", False
    if _interpreted():
        return "", True
    if not torch.version.cuda:
        return "this torch has no CUDA, and on a CPU Triton has only its interpreter: set TRITON_INTERPRET=1", False
    return "", False


def _interpreted() -> bool:
    """Whether kernels are or will be interpreted: triton decides when it is imported."""
    loaded = sys.modules.get("triton")
    if loaded is not None:
        return bool(loaded.knobs.runtime.interpret)
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def _triton_here(device: torch.device) -> tuple[str, bool, int]:
    """The same for a device, and programs that may wait for each other there."""
    why, interpreted = _triton()
    if why or interpreted or device.type != "cuda" or not torch.cuda.is_available():
        return why, interpreted, 1
    properties = torch.cuda.get_device_properties(device)
    if properties.major < 8:
        return f"{properties.name} is sm_{properties.major}{properties.minor}, and the kernels need sm_80", False, 1
    return "", False, max(1, properties.multi_processor_count - env.reserved_sms())


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
    card = None
    if device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        gpu = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})"
        card = None if _cuda_reason() else _card(device.index or 0)
    no_triton, interpreted, programs = _triton_here(device)
    return Machine(
        native=why,
        cuda=_cuda_reason(),
        isa="" if why else native.module().cpu_isa(),
        threads=torch.get_num_threads(),
        gpu=gpu,
        card=card,
        tf32=torch.get_float32_matmul_precision() != "highest",
        cuda_kernel=env.cuda_kernel(),
        triton=no_triton,
        interpreted=interpreted,
        triton_programs=programs,
        triton_kernel=env.triton_kernel(),
    )


def _card(index: int) -> Card | None:
    found = [d for d in native.module().cuda_devices() if d["index"] == index]
    if not found:
        return None
    d = found[0]
    return card_for(d["name"], d["sm_count"] - env.reserved_sms(), d["shared_memory_optin"], d["l2_bytes"])


def planned(device: torch.device) -> tuple[str, Machine]:
    """What the planner is told of tensors on ``device``: the device type it sees, and the machine.

    Plans of the op ask here, once for each that is cached. Tests replace this function to plan as if the tensors were
    on another device; they forget plans before and after (``lstmrep.ops.plans.reset_plans``).
    """
    return device.type, current(device)


def reset() -> None:
    """Forget what was found (for tests that change the machine)."""
    _cuda_reason.cache_clear()
    _triton.cache_clear()
