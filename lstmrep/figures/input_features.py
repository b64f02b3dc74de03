"""Figure 9 of the paper: what each gate of the encoder's first layer looks for in a frame."""

from __future__ import annotations

from pathlib import Path

from lstmrep.figures.features import Feature, checked_frame, drawn, largest, said
from lstmrep.figures.figure import Figure
from lstmrep.nn import CompositeModel

CALLER = "lstmrep.figures.input_features"
# In torch's order of the rows of weight_ih: i, f, g, o.
GATES = ("input gate", "forget gate", "cell input", "output gate")


def input_features(
    model: CompositeModel,
    out: str | Path,
    frame_shape: tuple[int, int, int],
    *,
    top: int = 200,
    columns: int = 20,
    scale: int = 2,
) -> Figure:
    """Draw the input weights of the encoder's first layer: for each gate the units with the largest norm, as frames.

    Writes ``input_features.png``, four blocks of tiles in the order of their L2 norm from left to right and then down,
    and ``input_features.csv``: ``gate,rank,unit,norm,length,width,elongation``
    (:func:`lstmrep.figures.features.axes`). Tile k is row ``unit`` of the gate's part of ``encoder.weight_ih_l0``. Each
    tile is scaled by itself: zero is middle grey, its largest weight black or white; brightness says nothing about
    which unit's weights are larger, the order does.

    Args:
        model: a :class:`lstmrep.CompositeModel`.
        out: the folder.
        frame_shape: (C, H, W) of the frames that it reads, C of 1 (grey) or 3 (red, green, blue).
        top: units of each gate; all where there are fewer. Default 200.
        columns: tiles in a row of a block. Default 20.
        scale: each weight becomes a square of this many pixels. Default 2.

    Returns:
        The :class:`Figure`; ``grids["input_features/forget gate"]`` says where tiles lie.

    Raises:
        ValueError: the shape is no image's, or not of the model's frames.
        ImportError: pillow is not installed.

    Source: Srivastava et al. 2015, section 3.1, on the features that are learnt.
    """
    checked_frame(CALLER, model, frame_shape, top, columns)
    found = of_gates(model, frame_shape, top)
    figure = drawn(found, Path(out), "input_features", "gate", columns=columns, scale=scale)
    figure.found = [said(f"input features, {gate}", {gate: f}) for gate, f in found.items()]
    figure.found.append("each tile is scaled by itself")
    return figure


def of_gates(model: CompositeModel, frame_shape: tuple[int, int, int], top: int) -> dict[str, Feature]:
    """The features by gate."""
    parts = model.encoder.weight("weight_ih", 0).chunk(4)
    return {gate: largest(part, frame_shape, top) for gate, part in zip(GATES, parts, strict=True)}
