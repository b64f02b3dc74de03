"""One frame as an image of whole bytes, and where frames lie in a grid. No file is written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Color = tuple[int, int, int]
PAPER: Color = (255, 255, 255)
INK: Color = (40, 40, 40)
# Told apart in every kind of colour vision.
INPUT: Color = (0, 114, 178)
PREDICTED: Color = (213, 94, 0)


def to_array(frames: Any, name: str = "frames", dims: int = 4) -> np.ndarray:
    """Frames as a float array, from a tensor on any device or an array.

    Args:
        frames: floating point, ``[T, C, H, W]`` (``dims`` 4) or ``[C, H, W]`` (3), C of 1 (grey) or 3 (red, green,
            blue).
        name: the argument's name, for the message.
        dims: how many dimensions are expected.

    Raises:
        TypeError, ValueError: 8-bit frames, or no images.
    """
    if isinstance(frames, torch.Tensor):
        # numpy has no bfloat16.
        frames = (frames.float() if frames.is_floating_point() else frames).detach().cpu().numpy()
    array = np.asarray(frames)
    if array.dtype.kind != "f":
        raise TypeError(
            f"lstmrep.viz: argument '{name}' is {array.dtype}, expected floating point frames in [0, 1]; divide 8-bit "
            "frames by 255."
        )
    if array.ndim != dims or array.shape[-3] not in (1, 3):
        order = "[T, C, H, W]" if dims == 4 else "[C, H, W]"
        raise ValueError(
            f"lstmrep.viz: argument '{name}' has the shape {array.shape}, expected {order} with C = 1 or 3; features "
            "that are no images cannot be shown."
        )
    return array


def clip_arrays(caller: str, **given: Any) -> dict[str, np.ndarray]:
    """The parts of a clip that are given, as arrays: one frame size, an input, no more told again than was read."""
    clip = {name: to_array(frames, name) for name, frames in given.items() if frames is not None}
    if "inputs" not in clip or not len(clip["inputs"]):
        raise ValueError(f"{caller}: argument 'inputs' has no frames, expected those that the encoder read.")
    frame = clip["inputs"].shape[1:]
    for name, frames in clip.items():
        if frames.shape[1:] != frame:
            raise ValueError(
                f"{caller}: argument '{name}' has frames of the shape {frames.shape[1:]}, 'inputs' has {frame}; pass "
                "frames of one clip."
            )
    told = len(clip.get("reconstruction", ()))
    if told > len(clip["inputs"]):
        raise ValueError(
            f"{caller}: argument 'reconstruction' has {told} frames, 'inputs' has {len(clip['inputs'])}; a model "
            "repeats no more than it read."
        )
    return clip


def to_image(frame: Any, scale: int = 1) -> np.ndarray:
    """A frame as bytes, every pixel a square of ``scale`` by ``scale``.

    Args:
        frame: floating point ``[C, H, W]`` in [0, 1], C of 1 or 3; clipped, then rounded to 255 steps. A value that is
            not a number becomes 0.
        scale: whole number of 1 or more; default 1.

    Returns:
        uint8 ``[H * scale, W * scale]`` for grey, ``[H * scale, W * scale, 3]`` for colour.

    Raises:
        TypeError, ValueError: 8-bit frames, no image, a scale below 1.
    """
    if scale < 1:
        raise ValueError(f"lstmrep.viz.to_image: argument 'scale' is {scale}, expected 1 or more.")
    array = np.nan_to_num(to_array(frame, "frame", 3).clip(0, 1), nan=0.0)
    pixels = np.rint(array * 255).astype(np.uint8).transpose(1, 2, 0)
    pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


@dataclass(frozen=True)
class Grid:
    """Where frames lie in a picture: rows below each other, columns in time, all in pixels.

    Attributes:
        height: of a frame as drawn.
        width: of a frame as drawn.
        gap: between frames.
        left: room for the rows' names.
        top: room for the columns' numbers.
        divide: column before which there is a wider gap, and how much wider it is.
        groups: rows of a group, and how much wider the gap between groups is; (0, 0) for one group.
    """

    height: int
    width: int
    gap: int = 2
    left: int = 0
    top: int = 0
    divide: tuple[int, int] = (0, 0)
    groups: tuple[int, int] = (0, 0)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a frame; right and bottom are the first pixels outside it."""
        after, extra = self.divide
        x = self.left + column * (self.width + self.gap) + (extra if column >= after else 0)
        rows, apart = self.groups
        y = self.top + row * (self.height + self.gap) + (row // rows * apart if rows else 0)
        return x, y, x + self.width, y + self.height

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Width and height of the picture."""
        _, _, right, bottom = self.box(rows - 1, columns - 1)
        return right + self.gap, bottom + self.gap
