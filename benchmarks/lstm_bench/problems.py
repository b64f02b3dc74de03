"""Registered problems, as data: layers over a grid of sizes, and the paper's composite model and classifier."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace

HIDDEN = (128, 256, 512, 1024, 2048)
BATCHES = (1, 16, 80, 100, 128)
STEPS = (10, 16, 100)
DTYPES = ("float32", "bfloat16", "float16")
INFERENCE, FORWARD, TRAINING = PASSES = ("inference", "forward", "forward+backward")


@dataclass(frozen=True)
class Problem:
    """What is timed.

    Args:
        model: ``"lstm"`` (one layer, one direction), ``"composite"`` or ``"classifier"``.
        I: input features of a frame.
        H: hidden units.
        T: input frames; a composite model tells as many again.
        B: sequences.
        peephole: the cell has peepholes.
        predict: frames that a composite model predicts.
        classes: of a classifier.
    """

    model: str
    I: int
    H: int
    T: int
    B: int
    peephole: bool = False
    predict: int = 0
    classes: int = 0

    @property
    def name(self) -> str:
        """Such as ``lstm-i128-h256-t100-b16-peephole``; unique among the registered ones."""
        predict = f"+{self.predict}" if self.predict else ""
        sizes = f"{self.model}-i{self.I}-h{self.H}-t{self.T}{predict}-b{self.B}"
        return sizes + ("-peephole" if self.peephole else "")


def _both(*problems: Problem) -> list[Problem]:
    """Each without and with peepholes."""
    return [replace(p, peephole=peephole) for p in problems for peephole in (False, True)]


# The layer that reads fc6 features or frames of 64 x 64, other shapes of users, and the smallest.
LAYERS = _both(
    Problem("lstm", 128, 128, 100, 1),
    Problem("lstm", 128, 128, 100, 16),
    Problem("lstm", 128, 128, 100, 64),
    Problem("lstm", 1024, 256, 100, 1),
    Problem("lstm", 1024, 256, 100, 16),
    Problem("lstm", 4096, 2048, 10, 1),
    Problem("lstm", 4096, 2048, 10, 100),
    Problem("lstm", 4096, 2048, 16, 128),
)
GRID = _both(*(Problem("lstm", h, h, t, b) for h in HIDDEN for t in STEPS for b in BATCHES))
MODELS = _both(
    Problem("composite", 4096, 256, 10, 16, predict=10),
    Problem("composite", 4096, 2048, 10, 80, predict=10),  # the paper's digits at the released code's batch
    Problem("composite", 4096, 2048, 16, 128, predict=13),  # features of 16 frames, the next 13
    Problem("classifier", 4096, 256, 16, 16, classes=101),
    Problem("classifier", 4096, 2048, 16, 100, classes=101),  # the paper's on fc6 features
)
ALL = tuple(dict.fromkeys([*LAYERS, *MODELS, *GRID]))

_DEFAULT = (
    "lstm-i128-h128-t100-b1",
    "lstm-i128-h128-t100-b1-peephole",
    "lstm-i128-h128-t100-b16",
    "lstm-i128-h128-t100-b16-peephole",
    "lstm-i1024-h256-t100-b1",
    "lstm-i1024-h256-t100-b1-peephole",
    "lstm-i1024-h256-t100-b16",
    "lstm-i1024-h256-t100-b16-peephole",
    "lstm-i4096-h2048-t10-b1-peephole",
    "composite-i4096-h256-t10+10-b16-peephole",
    "classifier-i4096-h256-t16-b16-peephole",
)


def chosen(full: bool, patterns: Sequence[str] = ()) -> list[Problem]:
    """The problems of a run.

    Args:
        full: all that are registered; otherwise a set for a few minutes on two cores.
        patterns: shell patterns; where there are any, all registered problems whose name fits one.

    Returns:
        In the order in which they are registered.

    Raises:
        ValueError: a pattern fits no name.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatch(p.name, pattern) for p in ALL):
            raise ValueError(f"--only {pattern!r} fits no registered problem; --list prints their names.")
    wanted = tuple(patterns) or (("*",) if full else _DEFAULT)
    return [p for p in ALL if any(fnmatch.fnmatch(p.name, pattern) for pattern in wanted)]


def toy(problem: Problem) -> Problem:
    """The same in sizes that take no time: for tests of the benchmark itself."""
    return replace(
        problem,
        I=min(problem.I, 6),
        H=min(problem.H, 8),
        T=min(problem.T, 3),
        B=min(problem.B, 2),
        predict=min(problem.predict, 2),
        classes=min(problem.classes, 3),
    )


def flops(problem: Problem, passes: str) -> int:
    """Floating point operations of the matrix products of a pass, a multiplication and an addition counted as two.

    A first step without a state before it has no recurrent product. Backward has two products for each of forward's,
    but for the gradient of a model's frames, which nobody asks for.
    """
    p, gates = problem, 8 * problem.H * problem.B
    into, recurrent, heads = gates * p.T * p.I, gates * (p.T - 1) * p.H, 0
    if p.model == "composite":
        told = p.T + p.predict
        recurrent += gates * told * p.H
        heads = 2 * p.B * told * p.H * p.I
    if p.model == "classifier":
        heads = 2 * p.B * p.T * p.H * p.classes
    if passes != TRAINING:
        return into + recurrent + heads
    return (3 if p.model == "lstm" else 2) * into + 3 * (recurrent + heads)


def steps(problem: Problem) -> int:
    """Time steps that read W_hh, one after the other, in a forward pass of all layers."""
    return problem.T - 1 + (max(problem.T, problem.predict) if problem.model == "composite" else 0)


def moved(problem: Problem, passes: str, size: int) -> int:
    """Bytes that a pass cannot do without moving once: parameters, frames, results, what is kept, gradients.

    Args:
        problem: of which.
        passes: one of PASSES.
        size: bytes of an element; the kept cell state has four.
    """
    p = problem
    recurrences = 3 if p.model == "composite" else 1
    weights = 4 * p.H * p.I + recurrences * 4 * p.H * p.H
    frames = p.T * p.B * p.I
    units = p.T * p.B * p.H
    made = units
    if p.model == "composite":
        told = p.T + p.predict
        weights += 2 * p.H * p.I
        units += told * p.B * p.H
        frames += p.predict * p.B * p.I
        made = told * p.B * p.I
    if p.model == "classifier":
        weights += p.H * p.classes
        made = p.T * p.B * p.classes
    forward = (weights + frames + made) * size
    kept = units * (5 * size + 4)  # four gates, h, c
    if passes == INFERENCE:
        return forward
    if passes == FORWARD:
        return forward + kept
    # The kept values are written and read, weights are read again and their gradients written, frames are read again;
    # the incoming gradients of a layer, and those of its frames, are moved too.
    backward = (2 * weights + frames) * size + kept
    if p.model == "lstm":
        backward += (units + frames) * size
    return forward + kept + backward
