"""Moving MNIST, generated: digits that drift over a canvas and bounce off its walls, by the original's rules.

A clip is a function of (seed, split of the digits, index): in any order, any batch and any worker process it is the
same, bit for bit, and an option changes what it names and nothing else. Where digit images come from is
``lstmrep.data.digits``; the published fixed test file is read by ``lstmrep.data.fixed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.data.arguments import one_of, ordered, real, two, whole
from lstmrep.data.dataset import ClipDataset, Item
from lstmrep.data.digits import Digits
from lstmrep.data.motion import BOUNCES, Motion, polar, trajectories
from lstmrep.data.random import WORD, Indices, Key, Purpose, Reals, uniform, walk
from lstmrep.data.render import OVERLAPS, draw, over_background, saturated, texture
from lstmrep.data.sources import SPLITS

CALLER = "lstmrep.data.MovingMNIST"
LABELS = ("direction", "heading", "digits")
DIRECTIONS = ("right", "down", "left", "up")
MOST_DIGITS = 100
TEXTURE = 8  # pixels between the points that a background is drawn from


@dataclass(frozen=True, eq=False)
class Clips:
    """A batch of generated clips with all that is known of them. The last axis of places is (x, y), y down.

    Attributes:
        frames: float32 ``[B, T, C, H, W]`` in [0, 1].
        positions: float64 ``[B, T, n, 2]``, the upper left corner of each digit in pixels; it is drawn at
            ``positions.long()``.
        velocities: float64 ``[B, T, n, 2]``, pixels per frame after frame t, bounces of its step included.
        hits: bool ``[B, T, n, 2]``, whether the step into frame t met a wall of that axis.
        directions: int64 ``[B, n]``, the dominant direction of each first velocity: 0 right, 1 down, 2 left, 3 up.
        digit_labels: int64 ``[B, n]``, what each digit shows; -1 where a clip has fewer digits.
        digit_indices: int64 ``[B, n]``, which image of the digits; -1 likewise.
        colors: float32 ``[B, n, 3]``, or None for grey clips.
    """

    frames: Tensor
    positions: Tensor
    velocities: Tensor
    hits: Tensor
    directions: Tensor
    digit_labels: Tensor
    digit_indices: Tensor
    colors: Tensor | None


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is drawn, before it is: numbers only."""

    motion: Motion
    first: Reals
    images: Indices
    present: NDArray[np.bool_]
    colors: NDArray[np.float32] | None
    background: Reals | None


class MovingMNIST(ClipDataset):
    """Clips of digits moving in straight lines that bounce off the walls, an endless stream.

    By default as the released code makes them: position uniform over the canvas, direction uniform, 0.1 of the travel
    (canvas less digit: 3.6 of 36 pixels) a frame, a step before the first frame, at a wall stop there and turn that
    component, corner truncated to a pixel, maximum where digits overlap, digits drawn without replacement.

    Args:
        digits: images to move, from :func:`lstmrep.data.load_digits`; their split is part of the seed.
        num_frames: frames of a clip. Default 20.
        canvas: height and width in pixels, one number for both. Default 64.
        num_digits: digits of a clip, or (lowest, highest) of a uniform draw. Default 2.
        step: way per frame in travels of either axis, or (lowest, highest) of a uniform draw per digit. Default 0.1.
        overlap: ``"max"``, ``"sum"`` (up to 1) or ``"occlude"`` (the later digit lies on top where it is not 0).
        bounce: ``"clamp"``, ``"reflect"`` (no way is lost) or ``"stochastic"`` (a new random direction, and speed
            where ``step`` is a range, at each hit).
        bounce_seed: for ``"stochastic"``: seed of the redrawn velocities. Clips that differ in it alone are the same
            until the first hit. Default: ``seed``.
        replacement: whether each digit is drawn from all. Default: digits are taken from shuffled walks over the whole
            set, clip i taking the i-th group, so each image appears once before any appears again. Between two walks
            a clip may have the same image twice, as in the original.
        background: brightness, 0 to 1, of a smooth grey texture behind the digits, one for each clip, that stands
            still. Default 0: black, as in the original.
        color: draw each digit in a random saturated colour, C = 3.
        labels: None, ``"direction"`` (int64: of the first digit's first velocity in pixels, whichever is the largest of
            0 right, 1 down, 2 left, 3 up), ``"heading"`` (int64: where the first digit is heading after the last frame,
            0 up and left, 1 up and right, 2 down and left, 3 down and right) or ``"digits"`` (int64 ``[n]``, -1 where a
            clip has fewer).
        seed: of everything, 0 <= seed < 2**64.
        length: what ``len()`` says; the stream does not end there.

    Raises:
        TypeError, ValueError: an argument is not as above.

    Source: Srivastava et al. 2015, section 3.1, by the rules of the released code; its random numbers are not
    reproduced.
    """

    infinite = True

    def __init__(
        self,
        digits: Digits,
        num_frames: int = 20,
        canvas: int | Sequence[int] = 64,
        num_digits: int | Sequence[int] = 2,
        step: float | Sequence[float] = 0.1,
        *,
        overlap: str = "max",
        bounce: str = "clamp",
        bounce_seed: int | None = None,
        replacement: bool = False,
        background: float = 0.0,
        color: bool = False,
        labels: str | None = None,
        seed: int = 0,
        length: int = 10_000,
    ) -> None:
        if not isinstance(digits, Digits):
            raise TypeError(
                f"{CALLER}: argument 'digits' is a {type(digits).__name__}, expected Digits; pass load_digits()."
            )
        self.digits = digits
        self.num_frames = whole(CALLER, "num_frames", num_frames, 1)
        self.canvas = _canvas(canvas, digits.size)
        self.num_digits = _digits(num_digits)
        self.step = _step(step)
        self.overlap = one_of(CALLER, "overlap", overlap, OVERLAPS)
        self.bounce = one_of(CALLER, "bounce", bounce, BOUNCES)
        self.labels = one_of(CALLER, "labels", labels, (None, *LABELS))
        self.background = real(CALLER, "background", background, 0, 1)
        self.replacement, self.color = bool(replacement), bool(color)
        self.seed = whole(CALLER, "seed", seed, 0, WORD - 1)
        if bounce_seed is not None and bounce != "stochastic":
            raise ValueError(f"{CALLER}: argument 'bounce_seed' is {bounce_seed}, expected None for bounce={bounce!r}.")
        self.bounce_seed = self.seed if bounce_seed is None else whole(CALLER, "bounce_seed", bounce_seed, 0, WORD - 1)
        self.length = whole(CALLER, "length", length, 1)
        self.frame_shape = (3 if color else 1, *self.canvas)

    def __len__(self) -> int:
        return self.length

    @property
    def num_classes(self) -> int:
        """Of the labels ``"direction"`` and ``"heading"``; 0 for others."""
        return 4 if self.labels in ("direction", "heading") else 0

    @property
    def description(self) -> str:
        """Source, split, seed and settings in one line."""
        low, high = self.num_digits
        seed = f"seed {self.seed}"
        if self.bounce_seed != self.seed:
            seed = f"{seed} (bounces {self.bounce_seed})"
        return (
            f"MovingMNIST: {self.digits.description}; {seed}; {self.num_frames} frames of "
            f"{'x'.join(map(str, self.frame_shape))}, {low if low == high else f'{low} to {high}'} digits "
            f"{'with' if self.replacement else 'without'} replacement, step {_shown(self.step)}, "
            f"overlap {self.overlap}, bounce {self.bounce}, "
            f"{f'background {self.background:g}, ' if self.background else ''}labels {self.labels or 'none'}"
        )

    def batch(self, indices: Sequence[int]) -> Item:
        """The clips at ``indices``, formed together.

        Args:
            indices: integers of 0 or more, any order, repeats allowed; ``len()`` is no bound.

        Returns:
            float32 ``[B, T, C, H, W]``; with labels a pair of that and int64 ``[B]`` or ``[B, n]``.

        Raises:
            IndexError: an index is negative.
        """
        plan = self._plan(self._checked(indices))
        frames = torch.from_numpy(self._draw(plan))
        if self.labels == "direction":
            return frames, self._directions(plan)[:, 0]
        if self.labels == "heading":
            right, down = np.moveaxis(plan.motion.velocities[:, -1, 0] > 0, -1, 0)
            return frames, torch.from_numpy(right + 2 * down.astype(np.int64))
        if self.labels == "digits":
            return frames, self._digit_labels(plan)
        return frames

    def clips(self, indices: Sequence[int]) -> Clips:
        """The clips of :meth:`batch` with the places, velocities and identities of their digits.

        Args:
            indices: as of :meth:`batch`.

        Returns:
            A dataclass of tensors; see :class:`Clips`.
        """
        plan = self._plan(self._checked(indices))
        travel = self._travel()
        return Clips(
            frames=torch.from_numpy(self._draw(plan)),
            positions=torch.from_numpy(plan.motion.positions * travel),
            velocities=torch.from_numpy(plan.motion.velocities * travel),
            hits=torch.from_numpy(plan.motion.hits),
            directions=self._directions(plan),
            digit_labels=self._digit_labels(plan),
            digit_indices=torch.from_numpy(np.where(plan.present, plan.images, -1)),
            colors=None if plan.colors is None else torch.from_numpy(plan.colors),
        )

    def _plan(self, index: Indices) -> _Plan:
        key = Key(self.seed, SPLITS.index(self.digits.split))
        most = self.num_digits[1]
        clip, digit = index[:, None], np.arange(most)
        x, y, turn, fast = np.moveaxis(uniform(key, Purpose.MOTION, clip, 4, digit), -1, 0)
        first = polar(_between(self.step, fast), turn)
        motion = trajectories(
            np.stack([x, y], axis=-1), first, self.num_frames, self.bounce, self._redrawn(clip, digit)
        )
        hue = uniform(key, Purpose.COLOR, clip, 1, digit)[..., 0] if self.color else None
        return _Plan(
            motion=motion,
            first=first,
            images=self._images(key, clip, digit),
            present=digit < self._counts(key, clip),
            colors=None if hue is None else saturated(hue),
            background=self._background(key, index),
        )

    def _background(self, key: Key, index: Indices) -> Reals | None:
        """Of each clip the brightness at the points of a grid ``[B, h, w]``, which the texture lies between."""
        if not self.background:
            return None
        height, width = (max(2, -(-side // TEXTURE) + 1) for side in self.canvas)
        drawn = uniform(key, Purpose.BACKGROUND, index, height * width).reshape(-1, height, width)
        return self.background * drawn

    def _redrawn(self, clip: Indices, digit: Indices) -> Reals | None:
        """The velocity [B, T, n, 2] that each digit takes if it hits a wall in the step into frame t."""
        if self.bounce != "stochastic":
            return None
        key = Key(self.bounce_seed, SPLITS.index(self.digits.split))
        drawn = uniform(key, Purpose.BOUNCE, clip, 2 * self.num_frames, digit)
        by_frame = drawn.reshape(*drawn.shape[:2], self.num_frames, 2).swapaxes(1, 2)
        return polar(_between(self.step, by_frame[..., 1]), by_frame[..., 0])

    def _counts(self, key: Key, clip: Indices) -> Indices:
        low, high = self.num_digits
        if low == high:
            return np.full_like(clip, low)
        return low + (uniform(key, Purpose.COUNT, clip[:, 0], 1) * (high - low + 1)).astype(np.int64)

    def _images(self, key: Key, clip: Indices, digit: Indices) -> Indices:
        if self.replacement:
            return (uniform(key, Purpose.CHOICE, clip, 1, digit)[..., 0] * len(self.digits)).astype(np.int64)
        # Where the number of digits varies, each clip still takes the most from the walk: its place must not depend on
        # the draws of the clips before it.
        return walk(key, Purpose.WALK, clip * self.num_digits[1] + digit, len(self.digits))

    def _draw(self, plan: _Plan) -> NDArray[np.float32]:
        images = self.digits.images.numpy()[plan.images] * plan.present[..., None, None]
        # Truncation, as in the released code: positions are not negative.
        corners = (plan.motion.positions * self._travel()).astype(np.int64)
        frames = draw(images, corners, self.canvas, self.overlap, plan.colors)
        return frames if plan.background is None else over_background(frames, texture(plan.background, self.canvas))

    def _travel(self) -> Indices:
        """Pixels that a digit can move, (x, y)."""
        (height, width), (h, w) = self.canvas, self.digits.size
        return np.array([width - w, height - h])

    def _directions(self, plan: _Plan) -> Tensor:
        velocity = plan.first * self._travel()
        return torch.from_numpy(np.concatenate([velocity, -velocity], axis=-1).argmax(axis=-1))

    def _digit_labels(self, plan: _Plan) -> Tensor:
        return torch.from_numpy(np.where(plan.present, self.digits.labels.numpy()[plan.images], -1))


def _between(bounds: tuple[float, float], share: Reals) -> Reals:
    low, high = bounds
    return low + (high - low) * share


def _shown(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _canvas(canvas: int | Sequence[int], digit: tuple[int, int]) -> tuple[int, int]:
    height, width = (whole(CALLER, "canvas", side, 1) for side in two(CALLER, "canvas", canvas))
    if height < digit[0] or width < digit[1]:
        raise ValueError(
            f"{CALLER}: argument 'canvas' is {canvas}, expected at least the digit's {max(digit)}; pass "
            f"canvas={max(digit)} or more, or smaller digits."
        )
    return height, width


def _digits(num_digits: int | Sequence[int]) -> tuple[int, int]:
    low, high = (whole(CALLER, "num_digits", n, 1, MOST_DIGITS) for n in two(CALLER, "num_digits", num_digits))
    ordered(CALLER, "num_digits", low, high)
    return low, high


def _step(step: float | Sequence[float]) -> tuple[float, float]:
    low, high = (real(CALLER, "step", s, 0, 1) for s in two(CALLER, "step", step))
    ordered(CALLER, "step", low, high)
    return low, high
