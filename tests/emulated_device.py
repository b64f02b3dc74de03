"""Points the op at the emulated device: CPU tensors are planned as if on its card and run by its kernels.

What this does not show: the compiled machine code and its speed.  With LSTMREP_TEST_DEVICE=cuda the same tests run CUDA
tensors through the compiled kernels on the real card instead; what needs the emulator itself is then skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import emulated
import torch

from lstmrep import machine, native
from lstmrep.backends import cuda
from lstmrep.ops import plans
from lstmrep.plan import Card as PlannedCard
from lstmrep.plan import Machine
from lstmrep.testing import cases

ON_CARD = os.environ.get("LSTMREP_TEST_DEVICE") == "cuda"
DEVICE = torch.device("cuda", 0) if ON_CARD else torch.device("cpu")
NEEDS_EMULATOR = "needs the emulated device, and LSTMREP_TEST_DEVICE=cuda asks for the real card"


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


def reason() -> str:
    """``""`` when there is a device to run on, else why not."""
    return "" if ON_CARD else emulated.reason()


def run(case: cases.Case, backend: str, *arguments: Any, **named: Any) -> dict[str, torch.Tensor]:
    """``lstmrep.testing.cases.run``, where the backend may be ``cuda`` on ``DEVICE``."""
    device = DEVICE if backend in ("auto", "cuda") else torch.device("cpu")
    return cases.run(case, backend, *arguments, device=device, **named)


def set_schedule(device: ModuleType, seed: int) -> None:
    """The order in which warps run, from a seed; the real card has another one each time by itself."""
    if not ON_CARD:
        device.set_seed(seed)


def under_schedules(device: ModuleType, seeds: Iterable[int], case: cases.Case) -> list[dict[str, torch.Tensor]]:
    """The results of a case on the cuda backend under each schedule; schedule 0 is set again at the end."""
    results = []
    for seed in seeds:
        set_schedule(device, seed)
        results.append(run(case, "cuda"))
    set_schedule(device, 0)
    return results


@contextmanager
def planned_by(planned: Callable[[torch.device], tuple[str, Machine]]) -> Iterator[None]:
    """Plan with another ``machine.planned``; no plan made before or inside lives on outside."""
    plans.reset_plans()
    try:
        with mock.patch.object(machine, "planned", planned):
            yield
    finally:
        plans.reset_plans()


@contextmanager
def _real_card(card: Card | None, kernel: str, tf32: bool) -> Iterator[None]:
    """Plan as LSTMREP_CUDA_KERNEL and torch's TF32 switch would have it, for a card no larger than ``card``."""
    real = machine.planned

    def planned(where: torch.device) -> tuple[str, Machine]:
        seen, here = real(where)
        if seen != "cuda":
            return seen, here
        held = here.card
        if held is not None and card is not None:
            held = replace(
                held, sms=min(held.sms, card.sm_count), shared_bytes=min(held.shared_bytes, card.shared_optin)
            )
        return seen, replace(here, card=held, tf32=tf32, cuda_kernel=kernel)

    with planned_by(planned):
        yield


@contextmanager
def emulated_device(card: Card | None = None, *, kernel: str = "auto", tf32: bool = False) -> Iterator[ModuleType]:
    """Run the op's CUDA backend inside the block, on tensors of ``DEVICE``.

    Args:
        card: the card to emulate; default: the one that the emulator is set to. The real card is planned for as if it
            had no more SMs and shared memory than this.
        kernel: the CUDA kernel that may run, as LSTMREP_CUDA_KERNEL names it.
        tf32: plan as where torch allows TF32.

    Returns:
        The emulated device, ``emulated.module()``. Its card is put back and its launch records are dropped at the end.
        With the real card, the compiled module.
    """
    if ON_CARD:
        with _real_card(card, kernel, tf32):
            yield native.module()
        return
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


@contextmanager
def device_under_test(card: Card | None = None) -> Iterator[ModuleType]:
    """``emulated_device``; what torch makes by default is on ``DEVICE``."""
    with emulated_device(card) as module, torch.device(DEVICE):
        yield module
