"""Learning rate and teacher probability as pure functions of the step, so that a resumed run needs no state for them.

Steps count updates from 0: the first update has step 0, and with ``decay_after`` 10000 the rate first falls at step
10000.
"""

from __future__ import annotations

import math

from lstmrep.train.config import OptimizerConfig, TrainConfig

# One cycle: the rate starts at 1/25 of its height, climbs for 30 % of the steps, ends at 1/10000 of its start.
CLIMB, START, END = 0.3, 1 / 25, 1 / (25 * 10000)


def learning_rate(config: OptimizerConfig, step: int, max_iters: int) -> float:
    """The learning rate of an update.

    Args:
        config: of the optimizer: ``lr``, ``schedule`` and what belongs to it.
        step: updates done before this one.
        max_iters: length of the run, for schedules without a length of their own.

    Returns:
        ``constant``: lr. ``step``: lr * decay_factor^(step // decay_after), or lr where ``inert``. ``cosine``: half a
        cosine from lr to 0. ``onecycle``: half a cosine up to lr, and one down to almost nothing.

    Source: ``step`` and ``inert``: the released code, which computes this decay and then uses the rate without it.
    """
    length = max(config.schedule_steps or max_iters, 1)
    if config.schedule == "step" and not config.inert:
        return config.lr * config.decay_factor ** (step // config.decay_after)
    if config.schedule == "cosine":
        return config.lr * _cosine(1.0, 0.0, step / length)
    if config.schedule == "onecycle":
        top = CLIMB * length - 1
        if step <= top:
            return config.lr * _cosine(START, 1.0, step / top)
        return config.lr * _cosine(1.0, END, (step - top) / (length - 1 - top))
    return config.lr


def teacher_probability(config: TrainConfig, step: int) -> float | None:
    """Probability that a decoder with ``feeding="scheduled"`` is fed the true frame.

    Args:
        config: of the loop: ``teacher_start``, ``teacher_end``, ``teacher_steps``. A line that falls is scheduled
            sampling, one that rises is its reverse.
        step: updates done before this one.

    Returns:
        The probability, or none where ``teacher_steps`` is 0 and the model keeps its own.
    """
    if not config.teacher_steps:
        return None
    share = min(step / config.teacher_steps, 1.0)
    return (1.0 - share) * config.teacher_start + share * config.teacher_end


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
