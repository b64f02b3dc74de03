"""What the tests of figures read back: tables as columns of texts, pictures as pixels, tiles by their place."""

import csv

import numpy as np
from PIL import Image


def table(path):
    """Lines of a CSV file, text by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(lines, name):
    return np.array([float(line[name]) for line in lines])


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def at(picture, grid, row, column):
    left, top, right, bottom = grid.box(row, column)
    return picture[top:bottom, left:right]


def shown(frame, scale):
    """[C, H, W] in [0, 1] as pixels, each a square of ``scale``."""
    levels = np.rint(np.asarray(frame, np.float64).clip(0, 1) * 255).astype(np.uint8)
    squares = levels.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
    return np.broadcast_to(squares, (*squares.shape[:2], 3))


def nats(p, t):
    """Cross-entropy of each frame ``[..., C, H, W]``, by hand."""
    p, t = (np.asarray(x, np.float64) for x in (p, t))
    floor = 1e-10
    return -(t * np.log(np.maximum(p, floor)) + (1 - t) * np.log(np.maximum(1 - p, floor))).sum((-3, -2, -1))
