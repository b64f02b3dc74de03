"""A clip as one picture: the truth above, what the model made of it below, time from left to right.

The reconstruction is taken in the order in which it was decoded, the last input frame first, and is turned around so
that it stands under the frames it repeats.

Source: the figures of Srivastava et al. 2015, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lstmrep import files
from lstmrep.optional import package
from lstmrep.viz.frames import INK, INPUT, PAPER, PREDICTED, Grid, clip_arrays, to_image

CALLER = "lstmrep.viz.filmstrip"
MARK = (138, 138, 138)


def filmstrip(
    inputs: Any,
    reconstruction: Any,
    future: Any,
    truth: Any,
    path: str | Path,
    *,
    teacher: Any = None,
    scale: int = 2,
) -> Grid:
    """Write the strip of one clip as a PNG.

    Row 0 is the truth, row 1 the model: its reconstruction in time order under the last input frames, then its future.
    A teacher-forced future makes a row 2. Columns are numbered by frame, the first predicted one is +1.

    Args:
        inputs: the frames that the encoder read, floating point ``[T, C, H, W]`` in [0, 1].
        reconstruction: ``[R, C, H, W]``, R up to T, in decode order (the last input frame first), or none.
        future: predicted frames ``[P, C, H, W]``, or none.
        truth: true future frames, up to P of them, or none.
        path: the file, ``.png``.
        teacher: teacher-forced future frames, up to P of them, or none.
        scale: each value becomes a square of this many pixels. Default 2.

    Returns:
        The grid, whose ``grid.box(row, column)`` is where a frame lies.

    Raises:
        TypeError, ValueError: no images, shapes that do not belong together, a reconstruction longer than the input.
        ImportError: pillow is not installed.
    """
    clip = clip_arrays(
        CALLER, inputs=inputs, reconstruction=reconstruction, future=future, truth=truth, teacher=teacher
    )
    T = len(clip["inputs"])
    columns = T + max(len(clip[name]) if name in clip else 0 for name in ("future", "truth", "teacher"))
    rows: list[tuple[str, list[tuple[int, np.ndarray]]]] = [
        ("truth", [*placed(clip["inputs"], 0), *placed(clip.get("truth"), T)])
    ]
    back = clip.get("reconstruction")
    told = None if back is None else back[::-1]
    if told is not None or "future" in clip:
        start = T - (0 if told is None else len(told))
        rows.append(("model", [*placed(told, start), *placed(clip.get("future"), T)]))
    if "teacher" in clip:
        rows.append(("teacher", placed(clip["teacher"], T)))
    return draw_rows(rows, range(1 - T, columns - T + 1), path, scale=scale)


def placed(frames: np.ndarray | None, start: int) -> list[tuple[int, np.ndarray]]:
    """Frames with their columns, from ``start`` on; nothing for no frames."""
    return [] if frames is None else list(enumerate(frames, start))


def draw_rows(
    rows: Sequence[tuple[str, list[tuple[int, np.ndarray]]]],
    numbers: Sequence[int],
    path: str | Path,
    *,
    scale: int = 2,
    group: int = 0,
    mark: int | None = None,
    caller: str = CALLER,
) -> Grid:
    """Write rows of frames as a PNG, a number above each column, input in blue and prediction in orange.

    Args:
        rows: the name of a row and its frames, each with its column; frames are floating point ``[C, H, W]``.
        numbers: of the columns, rising: up to 0 for the input, whose last frame is 0, from +1 for the prediction.
        path: the file, ``.png``.
        scale: each value becomes a square of this many pixels. Default 2.
        group: rows that belong together; between groups the gap is wider. Default 0: all of them.
        mark: column before which a thin grey line is drawn.
        caller: who asks, for messages.

    Returns:
        The grid, whose ``grid.box(row, column)`` is where a frame lies.

    Raises:
        ImportError: pillow is not installed.
    """
    image_module = package("PIL.Image", caller, "viz")
    font = package("PIL.ImageFont", caller, "viz").load_default()
    height, width = to_image(rows[0][1][0][1], scale).shape[:2]
    left = max(int(font.getlength(name)) for name, _ in rows) + 12
    labels = [f"{number:+d}" if number > 0 else str(number) for number in numbers]
    inputs = sum(number <= 0 for number in numbers)
    # Small frames are spread so that a number fits above each.
    gap = max(2, int(max(font.getlength(text) for text in ("+00", *labels))) + 2 - width)
    grid = Grid(height, width, gap, left, top=18, divide=(inputs, 8), groups=(group, 10 if group else 0))
    image = image_module.new("RGB", grid.size(len(rows), len(numbers)), PAPER)
    draw = package("PIL.ImageDraw", caller, "viz").Draw(image)
    for column, text in enumerate(labels):
        x0, y0, x1, _ = grid.box(0, column)
        draw.text(((x0 + x1) / 2, y0 - 4), text, fill=PREDICTED if column >= inputs else INPUT, font=font, anchor="ms")
    for row, (name, frames) in enumerate(rows):
        _, y0, _, y1 = grid.box(row, 0)
        draw.text((left - 6, (y0 + y1) / 2), name, fill=INK, font=font, anchor="rm")
        for column, frame in frames:
            image.paste(image_module.fromarray(to_image(frame, scale)), grid.box(row, column)[:2])
    if len(numbers) > inputs:
        x = grid.box(0, inputs)[0] - gap // 2 - 4
        draw.line([(x, 4), (x, image.height - 4)], fill=PREDICTED, width=2)
    if mark is not None:
        x = grid.box(0, mark)[0] - (gap + 1) // 2
        draw.line([(x, 4), (x, image.height - 4)], fill=MARK, width=1)
    with files.replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
    return grid
