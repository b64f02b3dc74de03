"""A clip as a film: the truth on the left, the model on the right, with a blue frame while the input runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lstmrep import files
from lstmrep.optional import package
from lstmrep.viz.frames import INK, INPUT, PAPER, PREDICTED, Grid, clip_arrays, to_image

CALLER = "lstmrep.viz.animation"
BORDER = 3
HEADER = 18


def animation(
    inputs: Any,
    reconstruction: Any,
    future: Any,
    truth: Any,
    path: str | Path,
    *,
    scale: int = 4,
    milliseconds: int = 100,
    hold: int = 1000,
) -> int:
    """Write a GIF of one clip that runs for ever: the input with its reconstruction, then truth and prediction.

    A side that has no frame at a time stays empty.

    Args:
        inputs: the frames that the encoder read, floating point ``[T, C, H, W]`` in [0, 1].
        reconstruction: ``[R, C, H, W]`` in decode order (the last input frame first), or none.
        future: predicted frames ``[P, C, H, W]``, or none.
        truth: true future frames, or none.
        path: the file, ``.gif``.
        scale: each value becomes a square of this many pixels. Default 4.
        milliseconds: how long a frame shows; a multiple of 10, 20 or more. Default 100.
        hold: how long the last frame shows; the same rule. Default 1000.

    Returns:
        How many frames the film has, T plus the frames of the future.

    Raises:
        TypeError, ValueError: no images, shapes that do not belong together, a time that the format cannot hold.
        ImportError: pillow is not installed.
    """
    for name, value in (("milliseconds", milliseconds), ("hold", hold)):
        if value < 20 or value % 10:
            raise ValueError(
                f"{CALLER}: argument '{name}' is {value}, expected a multiple of 10 of 20 or more, as GIF counts in "
                "hundredths of a second and viewers slow shorter times down."
            )
    clip = clip_arrays(CALLER, inputs=inputs, reconstruction=reconstruction, future=future, truth=truth)
    T = len(clip["inputs"])
    total = T + max(len(clip.get(name, ())) for name in ("future", "truth"))
    left = dict(enumerate([*clip["inputs"], *clip.get("truth", ())]))
    told = clip.get("reconstruction", clip["inputs"][:0])[::-1]
    right = dict(enumerate([*told, *clip.get("future", ())], T - len(told)))
    images = [_draw(left.get(t), right.get(t), t, T, total, scale, clip["inputs"].shape[2:]) for t in range(total)]
    with files.replacing(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=[milliseconds] * (total - 1) + [hold],
            loop=0,
            optimize=False,
        )
    return total


def _draw(
    truth: np.ndarray | None,
    model: np.ndarray | None,
    t: int,
    inputs: int,
    total: int,
    scale: int,
    size: tuple[int, ...],
) -> Any:
    image_module = package("PIL.Image", CALLER, "viz")
    font = package("PIL.ImageFont", CALLER, "viz").load_default()
    width = max(size[1] * scale, 64)
    grid = Grid(size[0] * scale, width, 2 * BORDER + 4, BORDER + 2, HEADER + BORDER)
    across, down = grid.size(1, 2)
    # Below the pictures a bar says how far the film has run.
    image = image_module.new("RGB", (across, down + 6), PAPER)
    draw = package("PIL.ImageDraw", CALLER, "viz").Draw(image)
    color = PREDICTED if t >= inputs else INPUT
    for column, (name, frame) in enumerate((("truth", truth), ("model", model))):
        x0, y0, x1, y1 = grid.box(0, column)
        draw.rectangle([x0 - BORDER, y0 - BORDER, x1 + BORDER - 1, y1 + BORDER - 1], fill=color)
        draw.rectangle([x0, y0, x1 - 1, y1 - 1], fill=PAPER)
        draw.text((x0, HEADER - 6), name, fill=INK, font=font, anchor="ls")
        # The number differs from frame to frame, so that the format never merges two frames that look alike.
        number = f"+{t - inputs + 1}" if t >= inputs else f"{t - inputs + 1}"
        draw.text((x1, HEADER - 6), number, fill=color, font=font, anchor="rs")
        if frame is not None:
            image.paste(image_module.fromarray(to_image(frame, scale)), (x0 + (width - size[1] * scale) // 2, y0))
    draw.rectangle([0, down + 2, across * (t + 1) // total - 1, down + 5], fill=color)
    return image
