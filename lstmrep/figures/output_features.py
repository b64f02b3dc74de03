"""Figure 10 of the paper: what each unit of a decoder adds to a frame."""

from __future__ import annotations

from pathlib import Path

from lstmrep.figures.features import checked_frame, drawn, largest, said
from lstmrep.figures.figure import Figure
from lstmrep.figures.input_features import of_gates
from lstmrep.nn import CompositeModel

CALLER = "lstmrep.figures.output_features"
RECONSTRUCTION, FUTURE = "reconstruction decoder", "future predictor"


def output_features(
    model: CompositeModel,
    out: str | Path,
    frame_shape: tuple[int, int, int],
    *,
    top: int = 200,
    columns: int = 20,
    scale: int = 2,
) -> Figure:
    """Draw the head's weights of the decoders that there are: the units with the largest norm, as frames.

    Writes ``output_features.png``, a block of tiles for each decoder in the order of their L2 norm, and
    ``output_features.csv``: ``decoder,rank,unit,norm,length,width,elongation``
    (:func:`lstmrep.figures.features.axes`). Tile k is column ``unit`` of the decoder's ``head.weight``. Each tile is
    scaled by itself: zero is middle grey, its largest weight black or white.

    What is found sets the mean axes beside those of the input features: the paper says that output features are fatter
    and shorter.

    Args:
        model: a :class:`lstmrep.CompositeModel`.
        out: the folder.
        frame_shape: (C, H, W) of its frames, C of 1 (grey) or 3 (red, green, blue).
        top: units of each decoder, and of each gate for the comparison; all where there are fewer. Default 200.
        columns: tiles in a row of a block. Default 20.
        scale: each weight becomes a square of this many pixels. Default 2.

    Returns:
        The :class:`Figure`; ``grids["output_features/future predictor"]`` says where tiles lie.

    Raises:
        ValueError: the shape is no image's, or not of the model's frames.
        ImportError: pillow is not installed.

    Source: Srivastava et al. 2015, section 3.1, on the features that are learnt.
    """
    checked_frame(CALLER, model, frame_shape, top, columns)
    decoders = {RECONSTRUCTION: model.reconstruction, FUTURE: model.future}
    found = {
        name: largest(decoder.head.weight.t(), frame_shape, top)
        for name, decoder in decoders.items()
        if decoder is not None
    }
    figure = drawn(found, Path(out), "output_features", "decoder", columns=columns, scale=scale)
    figure.found = [
        said("input features, all gates", of_gates(model, frame_shape, top)),
        said("output features, all decoders", found),
        "each tile is scaled by itself",
    ]
    return figure
