"""Seconds of a training step on a card that may not be here, from shapes and rates alone (a model, printed as such)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lstmrep.nn import ActionClassifier, CompositeModel
from lstmrep.plan import BYTES, GATES, Card, Machine, Problem, plan
from lstmrep.planner.cards import CARDS
from lstmrep.planner.problem import CudaPass, on_tensor_cores
from lstmrep.planner.steptime import grid_time, stepwise_time

# Share of the peak that library products of many rows reach (an estimate).
LARGE_PRODUCTS = 0.7
HOUR = 3600


@dataclass(frozen=True)
class Duration:
    """Modelled seconds of a training step.

    Attributes:
        card: its name.
        recurrences: forward and backward, of all layers.
        products: of inputs, heads and gradients of weights, over whole sequences.
        optimizer: reading and writing parameters, gradients and state.
    """

    card: str
    recurrences: float
    products: float
    optimizer: float

    @property
    def step(self) -> float:
        """All of it."""
        return self.recurrences + self.products + self.optimizer

    def hours(self, steps: int) -> float:
        """GPU hours of so many steps."""
        return self.step * steps / HOUR

    def describe(self, steps: int) -> str:
        """One line."""
        parts = (
            f"{name} {1e3 * t:.2f}"
            for name, t in (
                ("recurrences", self.recurrences),
                ("products", self.products),
                ("optimizer", self.optimizer),
            )
        )
        hours = self.hours(steps)
        return (
            f"time      model, not measured: {1e3 * self.step:.2f} ms a step on {self.card} ({', '.join(parts)}); "
            f"{hours:,.{1 if hours >= 1 else 2}f} GPU hours for {steps:,} steps"
        )


def training_step(
    model: CompositeModel | ActionClassifier,
    batch: int,
    steps: int,
    card: str,
    *,
    dtype: str = "float32",
    optimizer_tensors: int = 2,
) -> Duration:
    """What a training step of ``model`` would take on a card. Data, validation and the host are not counted.

    Args:
        model: on any device; ``"meta"`` does.
        batch: B, sequences.
        steps: T, frames of a clip, the future ones included.
        card: a name of ``lstmrep.planner.cards.CARDS``.
        dtype: of the products: ``"float32"`` (without TF32) or ``"bfloat16"``. Default ``"float32"``.
        optimizer_tensors: as of ``lstmrep.footprint.footprint``.

    Returns:
        A :class:`Duration`.

    Raises:
        ValueError: the card is not known; the message lists those that are.
    """
    if card not in CARDS:
        raise ValueError(f"lstmrep.duration: card {card!r} is not known; choose one of {', '.join(CARDS)}.")
    known = CARDS[card]
    machine = Machine(gpu=card, card=known)
    problems = [
        dataclasses.replace(p, device="cuda", dtype=dtype, backend="auto", training=True)
        for p in model.problems(batch, steps)
    ]
    recurrences = sum(_recurrence(p, machine, known) for p in problems)
    flops = sum(map(_sequence_flops, problems)) + 3 * _head_flops(model, batch, steps)
    tensor = on_tensor_cores(problems[0], False)
    rate = (known.gemm_rate if tensor else known.float_rate) * LARGE_PRODUCTS
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Parameters and state are read and written, gradients read.
    moved = numbers * BYTES["float32"] * (2 * (1 + optimizer_tensors) + 1)
    return Duration(card, recurrences, flops / rate, moved / known.memory_rate)


def _recurrence(p: Problem, machine: Machine, card: Card) -> float:
    """Forward and backward; of kernels without a model what the stepwise kernel would take, which is more."""
    chosen = plan(p, machine)
    return sum(_pass(p, card, how, backward) for backward, how in enumerate(chosen.cuda))


def _pass(p: Problem, card: Card, how: CudaPass, backward: int) -> float:
    tensor = on_tensor_cores(p, how.tf32)
    if how.grid is not None:
        return grid_time(p, card, how.grid, bool(backward), tensor).total(p.steps)
    return stepwise_time(p, card, tensor).total(p.steps)


def _sequence_flops(p: Problem) -> int:
    """Of products over whole sequences: the input's forward and twice backward, the gradient of W_hh."""
    rows = p.recurrences * p.steps * p.batch
    return 2 * rows * GATES * p.hidden_size * (3 * p.input_size + p.hidden_size)


def _head_flops(model: CompositeModel | ActionClassifier, batch: int, steps: int) -> int:
    c = model.config
    if isinstance(model, ActionClassifier):
        return 2 * batch * steps * model.config.hidden_size * model.config.num_classes
    made = model.config.reconstruct + model.config.predict
    return 2 * batch * made * c.hidden_size * c.input_size
