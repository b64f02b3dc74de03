"""What the units of a future predictor do while it runs on: gates, cell state and h, step by step.

Only the decoder of the future is run by hand here, through the reference's cell (docs/math.md, "The cell"); the encoder
is the model's own. ``h`` and the frames are those of ``model.predict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.backends.reference import cell_forward
from lstmrep.nn import CompositeModel
from lstmrep.nn.stack import PEEPHOLES, Stack

CALLER = "lstmrep.figures.activity"


@dataclass(frozen=True)
class Activity:
    """A roll-out of the future predictor. Step 0 is its first recurrent step.

    Attributes:
        i, f, g, o: input gate, forget gate, cell input and output gate of one layer, after their non-linearity,
            ``[steps, B, H]``.
        c: its cell state after the step, ``[steps, B, H]``.
        h: its output, ``[steps, B, H]``.
        frames: what the head made, ``[steps, B, *frame]``; with the hand-over ``"copy"`` one more at the start, which
            is read off the encoder's state before any step.
    """

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor
    frames: Tensor

    def change(self) -> Tensor:
        r"""Mean over clips and units of :math:`|h_t - h_{t-1}|`, float64 ``[steps - 1]`` from step 1 on."""
        return self.h.double().diff(dim=0).abs().mean((1, 2))


class _Layer(NamedTuple):
    """Parameters of a layer, in the dtype of the state; ``w_ih`` is none where it reads nothing."""

    w_ih: Tensor | None
    w_hh: Tensor
    bias: Tensor
    peephole: Tensor | None


@torch.no_grad()
def activity(model: CompositeModel, inputs: Tensor, steps: int, *, layer: int = -1) -> Activity:
    """Run the future predictor on and keep what its gates do.

    A conditional predictor reads the frame that it made itself, as in ``model.predict``.

    Args:
        model: a :class:`lstmrep.CompositeModel` with a future head.
        inputs: input frames only, ``[B, T, *frame]`` (``[T, B, *frame]`` without batch_first).
        steps: recurrent steps, 1 or more, any number.
        layer: whose activity is kept, from 0, or from the end with -1. Default: the top one.

    Returns:
        An :class:`Activity`.

    Raises:
        ValueError: no future head, no such layer, no steps.
    """
    decoder, config = model.future, model.config
    if decoder is None:
        raise ValueError(f"{CALLER}: the model was built with predict=0 and has no future head.")
    if steps < 1:
        raise ValueError(f"{CALLER}: argument 'steps' is {steps}, expected 1 or more.")
    if not -config.num_layers <= layer < config.num_layers:
        raise ValueError(
            f"{CALLER}: argument 'layer' is {layer}, the model has {config.num_layers}; pass 0 to "
            f"{config.num_layers - 1}, or -1 for the top one."
        )
    start = model.encode(inputs)
    narrow = decoder.lstm.weight("weight_hh", 0).dtype
    wide = torch.float64 if narrow == torch.float64 else torch.float32
    h, c = ([t.to(wide) for t in state.unbind(0)] for state in (start.h, start.c))
    layers = [_layer(decoder.lstm, k, wide) for k in range(config.num_layers)]
    frames = [decoder.activation(decoder.head(start.h[-1]))] if decoder.skipped else []
    kept: list[tuple[Tensor, ...]] = []
    for _ in range(steps):
        # The first step reads nothing, whatever the predictor reads later.
        x = frames[-1].to(wide) if decoder.conditional and frames else None
        for k, parameters in enumerate(layers):
            pre = h[k] @ parameters.w_hh.t() + parameters.bias
            if parameters.w_ih is not None and x is not None:
                pre = pre + x @ parameters.w_ih.t()
            i, f, g, o, c[k], made = cell_forward(pre, c[k], parameters.peephole, config.cell)
            h[k] = made.to(narrow).to(wide)  # the next step reads what a reader of h would see
            x = h[k]
            if k == layer % config.num_layers:
                kept.append((i, f, g, o, c[k], h[k]))
        frames.append(decoder.activation(decoder.head(h[-1].to(narrow))))
    i, f, g, o, c_all, h_all = (torch.stack(parts) for parts in zip(*kept, strict=True))
    return Activity(i, f, g, o, c_all, h_all, torch.stack(frames).unflatten(2, inputs.shape[2:]))


def _layer(stack: Stack, k: int, dtype: torch.dtype) -> _Layer:
    reads = k > 0 or stack.input_size > 0
    peephole = torch.stack([stack.weight(name, k) for name in PEEPHOLES]).to(dtype) if stack.peephole else None
    return _Layer(
        stack.weight("weight_ih", k).to(dtype) if reads else None,
        stack.weight("weight_hh", k).to(dtype),
        stack.weight("bias", k).to(dtype),
        peephole,
    )


def strongest_period(series: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""The period of the highest peak of the power spectrum :math:`|\sum_t (x_t - \bar x) e^{-2\pi i k t/T}|^2`.

    Args:
        series: ``[T, units]``, T of 2 or more.

    Returns:
        Periods T/k in steps, NaN for a unit that never changes, and the peak's share of the power without k = 0;
        float64 ``[units]`` each.

    Raises:
        ValueError: fewer than 2 steps.
    """
    values = np.asarray(series, np.float64)
    if len(values) < 2:
        raise ValueError(f"lstmrep.figures: a spectrum of {len(values)} steps, expected 2 or more.")
    power = np.abs(np.fft.rfft(values - values.mean(0), axis=0))[1:] ** 2
    total, peak = power.sum(0), power.argmax(0)
    # Of a constant only the rounding of its mean is left, which has a spectrum too.
    moves = (np.ptp(values, axis=0) > 0) & (total > 0)
    share = np.divide(power.max(0), total, out=np.zeros_like(total), where=moves)
    return np.where(moves, len(values) / (peak + 1), np.nan), share
