"""Weights of a unit seen as a frame: tiled in the order of their norm, and a number for strip or blob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep import files
from lstmrep.figures.figure import Figure, Line
from lstmrep.nn import CompositeModel
from lstmrep.optional import package
from lstmrep.viz.frames import INK, PAPER, Grid, to_image

# Second moment of a pixel about its own middle, along each axis.
PIXEL = 1.0 / 12.0
APART, TITLE = 24, 18


@dataclass(frozen=True)
class Feature:
    """Weights of some units, the largest first.

    Attributes:
        units: which units, int64 ``[n]``.
        norms: their L2 norms, falling, float64 ``[n]``.
        weights: float64 ``[n, C, H, W]``.
        length: see :func:`axes`, ``[n]``.
        width: likewise.
    """

    units: Tensor
    norms: Tensor
    weights: Tensor
    length: Tensor
    width: Tensor

    def elongation(self) -> Tensor:
        """Length over width, 1 or more."""
        return self.length / self.width

    def lines(self, name: str, title: str) -> list[Line]:
        """Of a table: rank, unit and numbers, with ``title`` in the column ``name``."""
        columns = [t.tolist() for t in (self.units, self.norms, self.length, self.width, self.elongation())]
        return [
            {name: title, "rank": rank, "unit": u, "norm": n, "length": a, "width": b, "elongation": e}
            for rank, (u, n, a, b, e) in enumerate(zip(*columns, strict=True))
        ]


def largest(weights: Tensor, frame: tuple[int, int, int], top: int) -> Feature:
    """The units with the largest weights.

    Args:
        weights: ``[units, C * H * W]``, a row for each unit.
        frame: (C, H, W).
        top: how many units; all where there are fewer.
    """
    rows = weights.detach().double().cpu()
    norms = rows.norm(dim=1)
    # Stable: of equal norms the lower unit comes first.
    order = torch.sort(norms, descending=True, stable=True).indices[:top]
    chosen = rows[order].unflatten(1, frame)
    length, width = axes(chosen)
    return Feature(order, norms[order], chosen, length, width)


def axes(weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""The principal axes of the squared weights, which tell a strip from a blob.

    With mass :math:`m_p = \sum_c w_{cp}^2` at pixel p of place :math:`r_p` and :math:`\bar r` the centre of mass, the
    axes are the square roots of the eigenvalues of

    .. math:: \frac{\sum_p m_p (r_p - \bar r)(r_p - \bar r)^T}{\sum_p m_p} + \frac{1}{12} I,

    where the last term is the extent of a pixel itself. A thin strip has a length well above its width; a blob and
    weights without any order have two alike.

    Args:
        weights: floating point ``[n, C, H, W]``.

    Returns:
        Length and width in pixels, float64 ``[n]``, length first; NaN where all weights are zero.
    """
    mass = weights.double().square().sum(1)
    mass = mass / mass.sum((1, 2), keepdim=True)
    H, W = mass.shape[1:]
    place = torch.stack(torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"), -1).double()
    centre = (mass[..., None] * place).sum((1, 2))
    apart = place - centre[:, None, None]
    moments = torch.einsum("nhw,nhwi,nhwj->nij", mass, apart, apart) + PIXEL * torch.eye(2, dtype=torch.float64)
    # The eigenvalues of a symmetric 2 x 2 matrix.
    middle = (moments[:, 0, 0] + moments[:, 1, 1]) / 2
    half = torch.hypot((moments[:, 0, 0] - moments[:, 1, 1]) / 2, moments[:, 0, 1])
    return (middle + half).sqrt(), (middle - half).clamp_min(PIXEL).sqrt()


def tile(weights: Tensor) -> NDArray[np.float64]:
    """One unit's weights as a frame in [0, 1]: zero is middle grey, its largest weight black or white.

    Args:
        weights: ``[C, H, W]``; each unit is scaled by itself, all channels alike.
    """
    most = float(weights.abs().max())
    shown: NDArray[np.float64] = (0.5 + 0.5 * weights / (most or 1.0)).numpy()
    return shown


def draw_tiles(blocks: Mapping[str, Feature], path: Path, caller: str, *, columns: int, scale: int) -> dict[str, Grid]:
    """Write blocks of tiles, two beside each other, tiles from left to right and then down.

    Args:
        blocks: by title; all of one frame size.
        path: the file, ``.png``.
        caller: who asks, for messages.
        columns: tiles in a row of a block.
        scale: each weight becomes a square of this many pixels.

    Returns:
        By title, the grid in which tile k lies at row k // columns, column k % columns.
    """
    image_module = package("PIL.Image", caller, "viz")
    drawing = package("PIL.ImageDraw", caller, "viz")
    font = package("PIL.ImageFont", caller, "viz").load_default()
    one = next(iter(blocks.values()))
    height, width = (side * scale for side in one.weights.shape[2:])
    most = max(len(block.units) for block in blocks.values())
    columns, rows = min(columns, most), -(-most // columns)
    # A block is at least as wide as its title.
    across, down = Grid(height, width).size(rows, columns)
    across = max(across, *(int(font.getlength(title)) + 8 for title in blocks))
    grids = {
        title: Grid(height, width, left=2 + k % 2 * (across + APART), top=TITLE + k // 2 * (down + TITLE + 4))
        for k, title in enumerate(blocks)
    }
    size = [max(side) for side in zip(*(grid.size(rows, columns) for grid in grids.values()), strict=True)]
    image = image_module.new("RGB", (max(size[0], max(g.left for g in grids.values()) + across), size[1]), PAPER)
    draw = drawing.Draw(image)
    for title, block in blocks.items():
        grid = grids[title]
        draw.text((grid.left, grid.top - 5), title, fill=INK, font=font, anchor="ls")
        for k, weights in enumerate(block.weights):
            shown = image_module.fromarray(to_image(tile(weights), scale))
            image.paste(shown, grid.box(k // columns, k % columns)[:2])
    with files.replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
    return grids


def drawn(blocks: Mapping[str, Feature], out: Path, name: str, column: str, *, columns: int, scale: int) -> Figure:
    """The figure ``name``: its tiles, where they lie, and the table, whose first column says the block."""
    figure = Figure(out)
    caller = f"lstmrep.figures.{name}"
    grids = draw_tiles(blocks, figure.picture(f"{name}.png"), caller, columns=columns, scale=scale)
    figure.grids = {f"{name}/{title}": grid for title, grid in grids.items()}
    figure.table(name, [line for title, block in blocks.items() for line in block.lines(column, title)])
    return figure


def said(name: str, features: Mapping[str, Feature]) -> str:
    """Means over all units shown, in a line."""
    parts = [torch.cat([getattr(f, key) for f in features.values()]).nanmean() for key in ("length", "width")]
    ratio = torch.cat([f.elongation() for f in features.values()]).nanmean()
    return f"{name}: mean length {parts[0]:.2f}, width {parts[1]:.2f} pixels, elongation {ratio:.2f}"


def checked_frame(caller: str, model: CompositeModel, frame: tuple[int, int, int], top: int, columns: int) -> None:
    """Refuse a frame that the model's weights do not have.

    Raises:
        ValueError: it is no image, has another number of values, or nothing is to be drawn.
    """
    size = model.config.input_size
    if len(frame) != 3 or frame[0] not in (1, 3):
        raise ValueError(
            f"{caller}: argument 'frame_shape' is {tuple(frame)}, expected (C, H, W) with C = 1 or 3; features that "
            "are no images cannot be shown."
        )
    if frame[0] * frame[1] * frame[2] != size:
        raise ValueError(
            f"{caller}: argument 'frame_shape' is {tuple(frame)}, a product of {frame[0] * frame[1] * frame[2]}, and "
            f"the model has frames of {size} values; pass the shape of its frames."
        )
    for name, value in (("top", top), ("columns", columns)):
        if value < 1:
            raise ValueError(f"{caller}: argument '{name}' is {value}, expected 1 or more.")
