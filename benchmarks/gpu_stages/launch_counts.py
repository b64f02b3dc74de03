"""Stage "launches": kernels that the card really ran, beside what ``lstmrep.count_launches`` says."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import lstmrep
from gpu_stages.record import Record, SkipError
from gpu_stages.setup import KERNELS, Setup
from lstmrep.launches import Launches
from lstmrep.plan import PlanError

Step = Callable[[], object]


class Seen(NamedTuple):
    """What the profiler recorded: kernels by name, copies and fills by the driver."""

    kernels: Counter[str]
    copies: int
    fills: int

    @property
    def own(self) -> int:
        """Kernels of this library, by the namespace in their name."""
        return sum(n for name, n in self.kernels.items() if "lstmrep" in name)


def run(setup: Setup, record: Record) -> None:
    """Compare both counts for a layer and a model, forward and with the backward pass, by each kernel."""
    if setup.emulated:
        record.say("Without a profiler: own launches against the emulator's record of launches.")
    record.table(
        "module",
        "kernel",
        "passes",
        "own, counted",
        "own, seen",
        "torch, counted",
        "others, seen",
        "copies, fills seen",
    )
    unequal: list[str] = []
    for kernel in ("auto", *KERNELS):
        for module, make in (("LSTM", _layer), ("CompositeModel", _model)):
            for passes in ("forward", "forward + backward"):
                what = f"{module}, {kernel}, {passes}"
                with record.part(f"{what}: own launches", listed=False), setup.forced(kernel) as device:
                    try:
                        step = make(setup, passes != "forward")
                        step()  # plans are made, library handles too
                    except PlanError as why:
                        raise SkipError(str(why)) from None
                    cells, difference = _compare(setup, device, step)
                    record.row(module, kernel, passes, *cells)
                    unequal += [f"{what}: {line}" for line in difference]
                    assert cells[0] == cells[1], f"counted {cells[0]} launches of this library, {cells[1]} were seen"
    if not setup.emulated:
        record.say("", "Differences (counted by torch operation, seen by kernel):", "")
        record.say(*(f"- {line}" for line in unequal or ["none"]))


def _layer(setup: Setup, training: bool) -> Step:
    sizes = (4, 16, 3, 3) if setup.emulated else (64, 128, 20, 16)
    i, h, t, b = sizes
    torch.manual_seed(0)
    module = lstmrep.LSTM(i, h, peephole=True, backend="cuda").to(setup.device)
    x = torch.randn(t, b, i, device=setup.device)
    return _step(lambda: module(x)[0].sum(), training)


def _model(setup: Setup, training: bool) -> Step:
    side, h, b, frames = (4, 16, 2, 2) if setup.emulated else (16, 128, 16, 10)
    torch.manual_seed(0)
    model = lstmrep.CompositeModel(side * side, h, reconstruct=frames, predict=frames, backend="cuda").to(setup.device)
    clips = torch.rand(b, 2 * frames, 1, side, side, device=setup.device)
    return _step(lambda: model(clips).loss, training)


def _step(loss: Callable[[], Any], training: bool) -> Step:
    def step() -> None:
        with torch.set_grad_enabled(training):
            value = loss()
            if training:
                value.backward()

    return step


def _compare(setup: Setup, device: Any, step: Step) -> tuple[list[str], list[str]]:
    """The table's cells, and what differs in words."""
    setup.wait()
    if setup.emulated:
        device.take_launches()
        with lstmrep.count_launches() as counted:
            step()
        own = sum(counted.own.values())
        return [str(own), str(len(device.take_launches())), str(sum(counted.torch.values())), "-", "-"], []
    with lstmrep.count_launches() as counted:
        step()
    setup.wait()
    seen = profiled(step)
    others = sum(seen.kernels.values()) - seen.own
    own, torch_s = sum(counted.own.values()), sum(counted.torch.values())
    cells = [str(own), str(seen.own), str(torch_s), str(others), f"{seen.copies}, {seen.fills}"]
    return cells, differences(counted, seen)


def differences(counted: Launches, seen: Seen) -> list[str]:
    """In words, what of torch's was counted otherwise than it was seen."""
    others = sum(seen.kernels.values()) - seen.own
    lines = []
    if others != sum(counted.torch.values()):
        names = ", ".join(f"{n} {name[:60]}" for name, n in seen.kernels.most_common() if "lstmrep" not in name)
        operations = ", ".join(f"{n} {name}" for name, n in counted.torch.most_common())
        lines.append(f"counted {sum(counted.torch.values())} ({operations}), seen {others} ({names})")
    if seen.fills != counted.memset:
        lines.append(f"{counted.memset} fills with zero counted, {seen.fills} seen")
    return lines


def profiled(step: Step) -> Seen:
    """What the card runs during ``step``.

    Args:
        step: the work.

    Returns:
        The profiler's record.

    Raises:
        SkipError: the profiler recorded no kernel at all.
    """
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profile.export_chrome_trace(str(file))
        seen = counted_in(json.loads(file.read_text(encoding="utf-8")))
    if not seen.kernels:
        raise SkipError("torch.profiler recorded no kernel (no CUPTI, or the driver keeps its counters to root)")
    return seen


def counted_in(trace: dict[str, Any]) -> Seen:
    """Kernels, copies and fills of a trace in Chrome's format, as torch.profiler writes it."""
    by_kind: dict[str, Counter[str]] = {}
    for event in trace.get("traceEvents", []):
        by_kind.setdefault(event.get("cat", ""), Counter())[event.get("name", "")] += 1
    copies, fills = (sum(by_kind.get(kind, Counter()).values()) for kind in ("gpu_memcpy", "gpu_memset"))
    return Seen(by_kind.get("kernel", Counter()), copies, fills)
