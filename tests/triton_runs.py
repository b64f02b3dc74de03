"""Runs of Triton's kernels: on the CPU in its interpreter and as processes that run side by side, or on the real card.

The interpreter runs programs one after another, so programs that wait for each other need a process each: ``forked``
starts every launch that way, over shared memory, where the interpreter's atomics are the processor's own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import util
from typing import Any
from unittest import mock

import torch
from emulated_device import DEVICE, ON_CARD, planned_by

from lstmrep import machine
from lstmrep.testing import cases

REASON = "" if util.find_spec("triton") else "triton is not installed"
NEEDS_INTERPRETER = "needs Triton's interpreter, and LSTMREP_TEST_DEVICE=cuda asks for the real card"
PATIENCE = 120  # seconds for the processes of a launch


def run(case: cases.Case, backend: str, *arguments: Any, **named: Any) -> dict[str, torch.Tensor]:
    """``lstmrep.testing.cases.run``, where Triton runs on ``DEVICE``."""
    device = DEVICE if backend == "triton" else torch.device("cpu")
    return cases.run(case, backend, *arguments, device=device, **named)


@contextmanager
def triton_kernel(kernel: str, *, programs: int = 1, tf32: bool = False) -> Iterator[None]:
    """Plan as LSTMREP_TRITON_KERNEL would have it, for so many programs that may wait for each other."""
    real = machine.planned

    def planned(where: torch.device) -> Any:
        seen, here = real(where)
        held = here.triton_programs if ON_CARD else programs
        return seen, replace(here, triton_kernel=kernel, triton_programs=held, tf32=tf32)

    with planned_by(planned):
        yield


@contextmanager
def forked(late: int = -1, absent: int = -1, delay: float = 0.3) -> Iterator[None]:
    """Every launch of ``grid_persistent`` runs one process a program.

    Args:
        late: this program starts after the others have waited for a while, ``delay`` seconds.
        absent: this program never runs.
    """
    from lstmrep.triton_kernels import grid_persistent, launch

    real = launch.start

    def start(name: str, kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], call: Any, how: Any) -> None:
        shared: dict[int, torch.Tensor] = {}

        def moved(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or value is call.w:  # the weights are only read, where they lie
                return value
            if value.data_ptr() not in shared:
                shared[value.data_ptr()] = value.detach().clone().share_memory_()
            return shared[value.data_ptr()]

        given = tuple(map(moved, arguments))
        places = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
        children = []
        for number, place in enumerate(places):
            if number == absent:
                continue
            child = os.fork()
            if child == 0:
                _run_one(real, name, kernel, grid, place, given, call, how, delay=delay * (number == late))
            children.append(child)
        _wait_for(children)
        for value in arguments:
            if isinstance(value, torch.Tensor) and value.data_ptr() in shared:
                value.detach().copy_(shared[value.data_ptr()])
        launch._counts[name] += 1

    many = mock.patch.object(grid_persistent, "resident_programs", return_value=1 << 10)
    with mock.patch.object(grid_persistent, "start", start), many:
        yield


def _run_one(start: Any, name: str, kernel: Any, grid: Any, place: Any, given: Any, call: Any, how: Any, delay: float):
    """In a process of its own: one program of the grid, then the end."""
    try:
        from triton.runtime.interpreter import interpreter_builder as builder

        time.sleep(delay)
        dimensions, index, atomic = builder.set_grid_dim, builder.set_grid_idx, builder.create_atomic_rmw
        builder.set_grid_dim = lambda *_: dimensions(*grid)
        builder.set_grid_idx = lambda *_: index(*place)
        builder.create_atomic_rmw = lambda *a: (time.sleep(0.0005), atomic(*a))[1]  # more programs than cores wait
        start(name, kernel, (1, 1, 1), given, call, how)
        os._exit(0)
    except BaseException as error:
        os.write(2, f"program {place} of {name}: {error!r}\n".encode())
        os._exit(1)


def _wait_for(children: list[int]) -> None:
    end = time.monotonic() + PATIENCE
    waiting, failed = set(children), []
    while waiting and time.monotonic() < end:
        for child in list(waiting):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                waiting.discard(child)
                failed += [status] * (status != 0)
        time.sleep(0.002)
    for child in waiting:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not waiting, f"{len(waiting)} programs did not end in {PATIENCE} s"
    assert not failed, f"{len(failed)} programs failed"
