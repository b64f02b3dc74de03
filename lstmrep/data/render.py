"""Digits drawn on canvases, one layer of all frames at a time, by one of three rules of overlap."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
OVERLAPS = ("max", "sum", "occlude")


def draw(
    images: Pixels, corners: NDArray[np.int64], canvas: tuple[int, int], overlap: str, colors: Pixels | None = None
) -> Pixels:
    """Draw every digit of every frame.

    Where digits overlap, the elementwise maximum counts (``"max"``), the sum up to 1 (``"sum"``), or the later digit
    where it is not zero (``"occlude"``).

    Args:
        images: float32 ``[B, n, h, w]`` in [0, 1]; all zero where a clip has fewer digits.
        corners: int64 ``[B, T, n, 2]``: column and row of a digit's upper left pixel.
        canvas: height and width.
        overlap: the rule.
        colors: float32 ``[B, n, C]``: a digit's pixel p becomes p * color. Default: one channel, white.

    Returns:
        float32 ``[B, T, C, H, W]`` in [0, 1].
    """
    B, T, n, _ = corners.shape
    channels = 1 if colors is None else colors.shape[-1]
    frames = np.zeros((B, T, channels, *canvas), dtype=np.float32)
    # The patch at every corner, as a view: one assignment writes the digit k of all frames.
    patches = sliding_window_view(frames, images.shape[-2:], axis=(3, 4), writeable=True)
    clip, frame = np.arange(B)[:, None], np.arange(T)
    for k in range(n):
        shape = images[:, None, k]
        for channel in range(channels):
            digit = shape if colors is None else shape * colors[:, None, k, channel, None, None]
            at = clip, frame, channel, corners[:, :, k, 1], corners[:, :, k, 0]
            # The first digit lies on an empty canvas.
            patches[at] = digit if k == 0 else _over(patches[at], digit, shape, overlap)
    return frames


def _over(below: Pixels, digit: Pixels, shape: Pixels, overlap: str) -> Pixels:
    over: Pixels
    if overlap == "max":
        over = np.maximum(below, digit)
    elif overlap == "sum":
        over = np.minimum(below + digit, np.float32(1))
    else:
        over = np.where(shape > 0, digit, below)
    return over


def over_background(frames: Pixels, background: Pixels) -> Pixels:
    """Frames in front of backgrounds: a pixel covers as much as its brightest channel says, 1 all of it.

    Args:
        frames: float32 ``[B, T, C, H, W]`` in [0, 1].
        background: float32 ``[B, H, W]`` in [0, 1], one for all frames of a clip.

    Returns:
        float32 ``[B, T, C, H, W]``.
    """
    seen: Pixels = frames + (1 - frames.max(2, keepdims=True)) * background[:, None, None]
    return seen


def texture(grid: NDArray[np.float64], canvas: tuple[int, int]) -> Pixels:
    """A smooth texture between values on a grid: ``[B, h, w]`` to float32 ``[B, H, W]``, bilinear."""
    rows, columns = (np.linspace(0, n - 1, side) for n, side in zip(grid.shape[1:], canvas, strict=True))
    top, left = (np.minimum(at.astype(np.int64), n - 2) for at, n in zip((rows, columns), grid.shape[1:], strict=True))
    down, right = (rows - top)[:, None], columns - left
    upper, lower = grid[:, top], grid[:, top + 1]
    between = upper + (lower - upper) * down
    made: Pixels = (between[:, :, left] * (1 - right) + between[:, :, left + 1] * right).astype(np.float32)
    return made


def saturated(hue: NDArray[np.float64]) -> Pixels:
    """Fully saturated colours of value 1: ``hue`` in [0, 1) -> float32 ``[..., 3]`` (red, green, blue)."""
    # How far a hue is from each channel's opposite, in sixths of the circle.
    away: NDArray[np.float64] = np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3)
    return np.clip(away - 1, 0, 1).astype(np.float32)
