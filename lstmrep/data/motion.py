"""Where digits are: straight lines in the unit square that bounce off its walls.

Positions and velocities are relative to the travel, the canvas less the digit: 0 is at the left or upper wall, 1 at
the right or lower one. Pixels, images and random numbers are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmrep.data.random import Reals

BOUNCES = ("clamp", "reflect", "stochastic")


@dataclass(frozen=True, eq=False)
class Motion:
    """Paths of digits; the last axis is (x, y), y down.

    Attributes:
        positions: float64 ``[B, T, n, 2]`` in [0, 1], when frame t is drawn.
        velocities: float64 ``[B, T, n, 2]`` per frame, after frame t, bounces of its step included.
        hits: bool ``[B, T, n, 2]``, whether the step into frame t met a wall of that axis.
    """

    positions: Reals
    velocities: Reals
    hits: np.ndarray


def polar(speed: Reals, turn: Reals) -> Reals:
    """Velocities of the given speed at ``turn`` full turns from right (x) towards down (y), ``[..., 2]``."""
    angle = 2 * np.pi * turn
    direction: Reals = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return speed[..., None] * direction


def trajectories(
    start: Reals, velocity: Reals, num_frames: int, bounce: str = "clamp", redrawn: Reals | None = None
) -> Motion:
    """Move for ``num_frames`` frames. A step is taken before the first frame.

    At a wall, by ``bounce``:

    * ``"clamp"``: the position stops at the wall and that component of the velocity flips. What the step would have
      gone beyond the wall is lost (the rule of the released code).
    * ``"reflect"``: the position is mirrored at the wall and that component flips, so no way is lost.
    * ``"stochastic"``: the position stops at the wall and the whole velocity is drawn anew, turned inward at the wall.

    Args:
        start: float64 ``[B, n, 2]`` in [0, 1].
        velocity: float64 ``[B, n, 2]``, at most 1 a frame and axis.
        num_frames: frames to move for.
        bounce: the rule at a wall.
        redrawn: for ``"stochastic"``: float64 ``[B, T, n, 2]``, the velocity taken if the step into frame t hits.

    Returns:
        The paths.

    Source: Srivastava et al. 2015, section 3.1, by the rules of the released code; Denton and Fergus 2018 for
    ``"stochastic"``.
    """
    positions = np.empty((start.shape[0], num_frames, *start.shape[1:]))
    velocities = np.empty_like(positions)
    hits = np.empty(positions.shape, dtype=bool)
    position = start
    # What a step ends at decides the next, so time is a loop; clips, digits and axes go together.
    for t in range(num_frames):
        position = position + velocity
        low, high = position <= 0, position >= 1
        hit = low | high
        if bounce == "reflect":
            position = np.where(low, -position, np.where(high, 2 - position, position))
        else:
            position = np.clip(position, 0, 1)
        if bounce == "stochastic" and redrawn is not None:
            new = redrawn[:, t]
            inward = np.where(low, np.abs(new), np.where(high, -np.abs(new), new))
            velocity = np.where(hit.any(axis=-1, keepdims=True), inward, velocity)
        else:
            velocity = np.where(hit, -velocity, velocity)
        positions[:, t], velocities[:, t], hits[:, t] = position, velocity, hit
    return Motion(positions, velocities, hits)
