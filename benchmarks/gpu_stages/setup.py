"""Where a stage runs: the real card, or the emulated one with CPU tensors and tiny sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from lstm_bench.ways import forced
from torch import Tensor

from gpu_stages.record import Record, SkipError
from lstmrep import machine, native
from lstmrep.ops import lstm
from lstmrep.plan import CUDA_KERNELS, PlanError, Problem, plan
from lstmrep.testing.cases import Case, numbers

KERNELS = tuple(name for name in CUDA_KERNELS if name != "auto")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
NO_STREAMS = "the emulated device has no streams"


@dataclass(frozen=True)
class Setup:
    """What the stages are told.

    Args:
        emulated: run on the emulated device.
    """

    emulated: bool = False

    @property
    def device(self) -> torch.device:
        """Where tensors of the cuda backend are."""
        return torch.device("cpu") if self.emulated else torch.device("cuda", torch.cuda.current_device())

    @property
    def streams(self) -> bool:
        """Whether there are streams, and graphs of what they do."""
        return not self.emulated

    @contextmanager
    def forced(self, kernel: str) -> Iterator[Any]:
        """Inside the block only ``kernel`` (or any, with ``"auto"``) may run the cuda backend.

        Args:
            kernel: a value of LSTMREP_CUDA_KERNEL.

        Yields:
            The module with the CUDA entries.
        """
        if self.emulated:
            from emulated_device import Card, emulated_device

            with emulated_device(Card("emulated card", 9, 0, 4, 227 << 10), kernel=kernel) as module:
                yield module
            return
        with forced(kernel):
            yield native.module()

    def refusal(self, kernel: str, problem: Problem) -> str:
        """Why ``kernel`` cannot run a problem here, or ``""``: the planner is asked."""
        with self.forced(kernel):
            try:
                plan(replace(problem, device="cuda", backend="cuda"), machine.planned(self.device)[1])
            except PlanError as why:
                return str(why)
        return ""

    def wait(self) -> None:
        """Until all that was launched on the card has ended, so that an error shows in the part that made it."""
        if not self.emulated:
            torch.cuda.synchronize()


def problem(case: Case, training: bool = True) -> Problem:
    """A case as the planner is told of it."""
    return Problem(
        hidden_size=case.H,
        steps=case.T,
        batch=case.B,
        input_size=case.I,
        recurrences=case.N,
        dtype=name(case.dtype),
        device="cuda",
        peephole=case.peephole,
        cell=case.cell,
        training=training,
    )


def name(dtype: torch.dtype) -> str:
    """``float32`` rather than ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


class Call:
    """A call of the op with its backward pass on tensors that stay where they are, so that it can be captured."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        data = numbers(case)
        self.grads = [self._placed(key, data.pop(key)) for key in ("grad_h", "grad_h_n", "grad_c_n")]
        self.leaves = {key: self._placed(key, t).requires_grad_() for key, t in data.items() if key != "lengths"}

    def _placed(self, key: str, t: Tensor) -> Tensor:
        wide = key in ("bias", "peephole", "c0", "grad_c_n")
        return t.to(self.device, torch.float32 if wide else self.case.dtype)

    def __call__(self) -> dict[str, Tensor]:
        """Outputs and the gradients of all inputs by name; new tensors."""
        case, t = self.case, self.leaves
        out = lstm(
            t.get("x"),
            [t[f"w_ih{n}"] for n in range(case.N)],
            [t[f"w_hh{n}"] for n in range(case.N)],
            bias=t.get("bias"),
            peephole=t.get("peephole"),
            h0=t.get("h0"),
            c0=t.get("c0"),
            reverse=case.flags,
            cell=case.cell,
            backend="cuda",
        )
        made = torch.autograd.grad(out, list(t.values()), self.grads)
        named = dict(zip(("h", "h_n", "c_n"), (o.detach() for o in out), strict=True))
        return named | {f"d_{key}": g for key, g in zip(t, made, strict=True)}

    def draw_again(self, seed: int) -> None:
        """Write other numbers into the same tensors."""
        other = Call(replace(self.case, seed=seed), self.device)
        with torch.no_grad():
            for mine, theirs in zip(
                [*self.leaves.values(), *self.grads], [*other.leaves.values(), *other.grads], strict=True
            ):
                mine.copy_(theirs)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results on the CPU; waits for them."""
    return {key: t.detach().cpu().clone() for key, t in tensors.items()}


def for_each_kernel(setup: Setup, record: Record, case: Case, what: str, run: Callable[[], None]) -> None:
    """Run a part for each kernel that may run a case; the others are skipped with the planner's reason.

    Args:
        setup: where.
        record: of the stage.
        case: what the planner is asked about.
        what: the part shows.
        run: the part, called inside ``setup.forced(kernel)``.
    """
    for kernel in KERNELS:
        with record.part(f"{kernel}, {name(case.dtype)}: {what}"):
            why = setup.refusal(kernel, problem(case))
            if why:
                raise SkipError(why)
            with setup.forced(kernel):
                run()
                setup.wait()
