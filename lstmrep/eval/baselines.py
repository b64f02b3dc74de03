"""What needs no learning: the mean, the last frame again, the last motion continued.

A loss means something only beside these.  Each function returns frames ``[B, steps, *frame]`` to be scored like a
model's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lstmrep.nn import outputs


def frames_of(batch: Any) -> Tensor:
    """The frames of a batch: the batch itself, or the first of a pair such as (frames, labels)."""
    if isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"lstmrep.eval: a batch is a {type(batch).__name__}, expected frames [B, T, *frame] or a tuple that starts "
            "with them."
        )
    if not batch.is_floating_point():
        raise TypeError(
            f"lstmrep.eval: a batch is {batch.dtype}, expected floating point frames in [0, 1]; divide 8-bit frames "
            "by 255."
        )
    if batch.ndim < 3:
        raise ValueError(f"lstmrep.eval: a batch has the shape {tuple(batch.shape)}, expected [B, T, *frame].")
    return batch


def mean_frame(batches: Iterable[Any], *, squash: float | None = None) -> Tensor:
    """The mean frame of training data, summed in float64.

    Args:
        batches: frames ``[B, T, *frame]`` or tuples that start with them. Take training data: the mean of the test data
            would be a baseline that has seen the answer.
        squash: ``model.config.squash`` for a model with ``output="squash"``, whose targets are the squashed frames.

    Returns:
        float32 ``[*frame]``, on the batches' device.

    Raises:
        ValueError: no frames.
    """
    total: Tensor | None = None
    count = 0
    for batch in batches:
        frames = frames_of(batch)
        if squash is not None:
            frames = outputs.squash(frames, squash)
        part = frames.double().sum((0, 1))
        total = part if total is None else total + part
        count += frames.shape[0] * frames.shape[1]
    if total is None or not count:
        raise ValueError("lstmrep.eval.mean_frame: argument 'batches' holds no frames, expected one at least.")
    return (total / count).float()


def mean_pixel(mean: Tensor) -> Tensor:
    """The mean frame with every pixel at the mean of its channel; one number for frames that are no images.

    Args:
        mean: ``[C, H, W]``, or another shape for features.

    Returns:
        The same shape and dtype.
    """
    over = (1, 2) if mean.ndim == 3 else tuple(range(mean.ndim))
    return mean.double().mean(over, keepdim=True).to(mean.dtype).expand(mean.shape)


def constant(frame: Tensor, clips: int, steps: int) -> Tensor:
    """One frame at every step of every clip: ``[*frame]`` -> ``[clips, steps, *frame]`` (a view)."""
    return frame.expand(clips, steps, *frame.shape)


def copy_last(inputs: Tensor, steps: int) -> Tensor:
    """The last input frame at every step.

    Args:
        inputs: ``[B, T, *frame]``.
        steps: frames to predict.

    Returns:
        ``[B, steps, *frame]`` (a view).
    """
    return inputs[:, -1:].expand(-1, steps, *inputs.shape[2:])


def displacement(first: Tensor, second: Tensor) -> Tensor:
    """Whole pixels by which the second image lies off the first, by phase correlation.

    The peak of the inverse transform of :math:`\\bar F_1 F_2 / |\\bar F_1 F_2|`, channels summed before dividing.

    Args:
        first: ``[B, C, H, W]``.
        second: the same shape.

    Returns:
        int64 ``[B, 2]``, down and right, each from -size/2 to size/2. Zero where an image is empty.
    """
    cross = (torch.fft.fft2(first.double()).conj() * torch.fft.fft2(second.double())).sum(1)
    size = cross.abs()
    # Noise has a phase too: what is zero to rounding has no say.
    floor = torch.finfo(torch.float64).eps * size.amax((1, 2), keepdim=True)
    peaks = torch.fft.ifft2(torch.where(size > floor, cross / size, 0)).real
    H, W = peaks.shape[1:]
    best = peaks.flatten(1).argmax(1)
    down, right = best // W, best % W
    return torch.stack([torch.where(down > H // 2, down - H, down), torch.where(right > W // 2, right - W, right)], 1)


def linear_motion(inputs: Tensor, steps: int) -> Tensor:
    """The last input frame moved on by the last displacement at every step; what it leaves behind is zero.

    One displacement moves the whole frame, so this is a strong baseline for one object and a weak one for two.

    Args:
        inputs: images ``[B, T, C, H, W]``; of a single frame nothing moves.
        steps: frames to predict.

    Returns:
        ``[B, steps, C, H, W]``.

    Raises:
        ValueError: frames that are no images.
    """
    if inputs.ndim != 5:
        raise ValueError(
            f"lstmrep.eval.linear_motion: argument 'inputs' has the shape {tuple(inputs.shape)}, expected images "
            "[B, T, C, H, W]."
        )
    B, T, C, H, W = inputs.shape
    last = inputs[:, -1]
    by = displacement(inputs[:, -2], last) if T > 1 else torch.zeros(B, 2, dtype=torch.int64, device=inputs.device)
    count = torch.arange(1, steps + 1, device=inputs.device)
    y = torch.arange(H, device=inputs.device) - (by[:, :1] * count)[:, :, None]
    x = torch.arange(W, device=inputs.device) - (by[:, 1:] * count)[:, :, None]
    inside = ((y >= 0) & (y < H))[:, :, None, :, None] & ((x >= 0) & (x < W))[:, :, None, None, :]
    clip = torch.arange(B, device=inputs.device).view(B, 1, 1, 1, 1)
    channel = torch.arange(C, device=inputs.device).view(1, 1, C, 1, 1)
    moved = last[clip, channel, y.clamp(0, H - 1)[:, :, None, :, None], x.clamp(0, W - 1)[:, :, None, None, :]]
    return torch.where(inside, moved, 0)
