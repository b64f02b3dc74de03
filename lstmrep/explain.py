"""``lstmrep.explain``: what would run for a problem or a module, what it costs, and why the rest was refused."""

from __future__ import annotations

import dataclasses

import torch

from lstmrep import env, machine
from lstmrep.footprint import footprint
from lstmrep.nn import LSTM, ActionClassifier, CompositeModel
from lstmrep.plan import Plan, Problem, plan


def explain(what: Problem | LSTM | CompositeModel | ActionClassifier, input: torch.Tensor | None = None) -> list[Plan]:
    """Print the plan of a problem, or of each call that a module makes, and return it.

    For a composite model in training the memory of a step is added, by shapes and with Adam's state.

    Args:
        what: a :class:`lstmrep.Problem`, or a module of this library together with an input for it.
        input: what the module would be called with: ``[T, B, I]`` (``[B, T, I]`` under batch_first), ``[T, I]``, or
            frames. Only its shape counts; a tensor on the meta device does.

    Returns:
        One plan a call of the op, layers in order; for a composite model the encoder's, then the decoders'.

    Raises:
        lstmrep.PlanError: a forced backend cannot run; the message says why.
    """
    if isinstance(what, Problem):
        problems = [what]
    else:
        if input is None:
            raise ValueError("lstmrep.explain: argument 'input' is missing; pass what the module would be called with.")
        steps, batch = (input.shape[0], 1) if input.dim() == 2 else input.shape[:2]
        if input.dim() > 2 and what.batch_first:
            steps, batch = batch, steps
        problems = what.problems(batch, steps)
    made = []
    for problem in problems:
        if problem.backend == "auto":
            problem = dataclasses.replace(problem, backend=env.backend())
        made.append(plan(problem, machine.current(problem.device)))
        print(made[-1].describe())
    if isinstance(what, CompositeModel) and what.training:
        print(footprint(what, batch, steps).describe())
    return made
