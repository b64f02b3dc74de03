"""A problem's numbers on a device, and how a module is run on them: the timed call, and all that the gate sees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import lstmrep
from lstm_bench.problems import INFERENCE, TRAINING, Problem
from lstm_bench.torch_parts import names_in_common

Results = dict[str, Tensor]


@dataclass
class Workload:
    """A problem with its inputs, drawn from a fixed seed and rounded to the dtype.

    Args:
        problem: which.
        dtype: of parameters and frames.
        device: where they are.
    """

    problem: Problem
    dtype: torch.dtype
    device: torch.device
    frames: Tensor = field(init=False)
    labels: Tensor = field(init=False)
    grad: Tensor = field(init=False)  # of a layer's output; a loss has its own

    def __post_init__(self) -> None:
        p, g = self.problem, torch.Generator().manual_seed(1)
        shape = (p.T, p.B, p.I) if p.model == "lstm" else (p.B, p.T + p.predict, p.I)
        draw = torch.randn if p.model == "lstm" else torch.rand
        self.frames = draw(shape, generator=g).to(self.device, self.dtype)
        self.frames.requires_grad_(p.model == "lstm")
        self.labels = torch.randint(max(1, p.classes), (p.B,), generator=g).to(self.device)
        self.grad = torch.randn(p.T, p.B, p.H, generator=g).to(self.device, self.dtype)

    @property
    def dtype_name(self) -> str:
        """``float32`` rather than ``torch.float32``."""
        return str(self.dtype).removeprefix("torch.")

    def module(self, backend: str = "auto", dtype: torch.dtype | None = None) -> nn.Module:
        """This library's module for the problem: the same parameters at every call.

        Args:
            backend: of its calls.
            dtype: of its parameters; default the workload's. They are drawn in that one and widened or kept.
        """
        p = self.problem
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made: nn.Module
            if p.model == "lstm":
                made = lstmrep.LSTM(p.I, p.H, peephole=p.peephole, backend=backend)
            elif p.model == "composite":
                made = lstmrep.CompositeModel(
                    p.I, p.H, reconstruct=p.T, predict=p.predict, peephole=p.peephole, backend=backend
                )
            else:
                made = lstmrep.ActionClassifier(p.I, p.H, p.classes, peephole=p.peephole, backend=backend)
            with torch.no_grad():
                for name, parameter in made.named_parameters():
                    if "weight_p" in name:
                        parameter.uniform_(-0.5, 0.5)  # zero by default, where a cell without them would pass
        return made.to(self.device, self.dtype).to(dtype or self.dtype)

    def widened(self, dtype: torch.dtype) -> Workload:
        """The very same numbers in another dtype."""
        other = copy.copy(self)
        other.dtype = dtype
        other.frames = self.frames.detach().to(dtype).requires_grad_(self.frames.requires_grad)
        other.grad = self.grad.to(dtype)
        return other

    def passing(self, module: nn.Module, passes: str) -> Callable[[], object]:
        """What is timed: the pass and nothing else, the parameters at hand."""
        wanted = list(module.parameters()) if passes == TRAINING else []

        def run() -> object:
            with torch.set_grad_enabled(passes != INFERENCE):
                made = self._forward(module)
                if passes != TRAINING:
                    return made
                if self.problem.model == "lstm":
                    return torch.autograd.grad(made[0], [self.frames, *wanted], self.grad)
                return torch.autograd.grad(made["loss"], wanted)

        return run

    def results(self, module: nn.Module, training: bool) -> Results:
        """All outputs, and for training all gradients, under this library's names."""
        with torch.set_grad_enabled(training):
            made = self._forward(module)
            named = _outputs(made)
            if not training:
                return named
            parameters = list(names_in_common(module))
            leaves = dict(parameters)
            if self.frames.requires_grad:
                leaves["frames"] = self.frames
            grad = [self.grad] if self.problem.model == "lstm" else None
            value = named["output"] if self.problem.model == "lstm" else named["loss"]
            gradients = torch.autograd.grad([value], list(leaves.values()), grad)
        found = {key: t.detach() for key, t in named.items()}
        return found | {f"d_{key}": t for key, t in zip(leaves, gradients, strict=True)}

    def _forward(self, module: nn.Module):  # type: ignore[no-untyped-def]
        return module(self.frames, self.labels) if self.problem.model == "classifier" else module(self.frames)


def _outputs(made) -> Results:  # type: ignore[no-untyped-def]
    """By name; frames and probabilities as the numbers before the non-linearity would hide large ones."""
    if isinstance(made, tuple):
        output, (h, c) = made
        return {"output": output, "h_n": h, "c_n": c}
    if isinstance(made, lstmrep.CompositeOutput):
        state = made.state
        named = {"loss": made.loss, "h": state.h, "c": state.c}
        return named | {"reconstruction": made.reconstruction, "future": made.future}
    if isinstance(made, lstmrep.ClassifierOutput):
        return {"loss": made.loss, "logits": made.logits}
    named = dict(made)  # of torch's parts: their frames come before the sigmoid, and batch second
    for key in ("reconstruction", "future"):
        if key in named:
            named[key] = named[key].sigmoid().transpose(0, 1)
    return named
