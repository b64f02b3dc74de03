"""Points the op at the emulated device: CPU tensors are planned as if on its card and run by its kernels.

What this does not show: the compiled machine code and its speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import emulated
import torch

from lstmrep import machine
from lstmrep.backends import cuda
from lstmrep.ops import plans
from lstmrep.plan import Card as PlannedCard
from lstmrep.plan import Machine


class Card(NamedTuple):
    """What a kernel's choice may depend on; the arguments of ``set_card``."""

    name: str
    major: int
    minor: int
    sm_count: int
    shared_optin: int


def current_card(device: ModuleType) -> Card:
    """The card that the emulator is set to."""
    (entry,) = device.cuda_devices()
    return Card(entry["name"], *entry["capability"], entry["sm_count"], entry["shared_memory_optin"])


@contextmanager
def emulated_device(card: Card | None = None, *, kernel: str = "auto", tf32: bool = False) -> Iterator[ModuleType]:
    """Run the op's CUDA backend on CPU tensors inside the block.

    Args:
        card: the card to emulate; default: the one that the emulator is set to.
        kernel: the CUDA kernel that may run, as LSTMREP_CUDA_KERNEL names it.
        tf32: plan as where torch allows TF32.

    Returns:
        The emulated device, ``emulated.module()``. Its card is put back and its launch records are dropped at the end.
    """
    device, real = emulated.module(), machine.planned
    before = current_card(device)

    def planned(where: torch.device) -> tuple[str, Machine]:
        if where.type != "cpu":
            return real(where)
        now = current_card(device)
        gpu = f"{now.name} (sm_{now.major}{now.minor})"
        return "cuda", replace(
            machine.current(where),
            native="",
            cuda=device.cuda_status(),
            gpu=gpu,
            card=PlannedCard(now.name, now.sm_count, now.shared_optin),
            tf32=tf32,
            cuda_kernel=kernel,
        )

    if card is not None:
        device.set_card(*card)
    device.take_launches()
    plans.reset_plans()
    try:
        with mock.patch.object(cuda, "kernels", return_value=device), mock.patch.object(machine, "planned", planned):
            yield device
    finally:
        plans.reset_plans()
        device.take_launches()
        device.set_card(*before)
