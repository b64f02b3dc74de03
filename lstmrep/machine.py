"""Collects what the planner must know about this machine: the native module, the CPU, the CUDA device."""

from __future__ import annotations

import functools

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
    return Machine(
        native=why,
        cuda=_cuda_reason(),
        isa="" if why else native.module().cpu_isa(),
        threads=torch.get_num_threads(),
        gpu=gpu,
        card=card,
        tf32=torch.get_float32_matmul_precision() != "highest",
        cuda_kernel=env.cuda_kernel(),
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
