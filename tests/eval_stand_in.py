"""A model with the interface of the composite model whose answers can be worked out by hand; a comparer of scores."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

FIELDS = {
    "input_size": 4,
    "hidden_size": 3,
    "num_layers": 1,
    "reconstruct": 2,
    "predict": 2,
    "conditional_reconstruction": False,
    "conditional_future": False,
    "output": "bernoulli",
    "handover": "step",
    "squash": 2.0,
    "batch_first": True,
}


class Fading(nn.Module):
    """Every frame it makes lies half way between the frame before and a half.

    Free-running, the frame before is the one it made; teacher-forced, the true one. Its reconstruction is exact at the
    last input frame and starts from there.
    """

    def __init__(self, **fields):
        super().__init__()
        self.config = SimpleNamespace(**{**FIELDS, **fields})
        self.weight = nn.Parameter(torch.ones(5, 2))
        self.part = nn.Dropout()
        self.modes = []

    @staticmethod
    def _next(frame):
        return frame / 2 + 0.25

    def _roll(self, frame, steps):
        made = []
        for _ in range(steps):
            frame = self._next(frame)
            made.append(frame)
        return torch.stack(made, 1)

    def forward(self, frames, *, feeding=None):
        c = self.config
        assert feeding in ("own", "teacher")
        self.modes.append((self.training, self.part.training, torch.is_inference_mode_enabled()))
        inputs = frames[:, : frames.shape[1] - c.predict]
        out = SimpleNamespace(reconstruction=None, future=None)
        if c.reconstruct:
            last = inputs[:, -1]
            out.reconstruction = torch.cat([last[:, None], self._roll(last, c.reconstruct - 1)], 1)
            if feeding == "teacher" and c.conditional_reconstruction:
                back = inputs.flip(1)[:, : c.reconstruct]
                out.reconstruction = torch.cat([back[:, :1], self._next(back[:, :-1])], 1)
        if c.predict:
            out.future = self._roll(inputs[:, -1], c.predict)
            if feeding == "teacher" and c.conditional_future:
                out.future = self._next(frames[:, inputs.shape[1] - 1 : -1])
        return out

    def predict(self, frames, steps=None):
        return self._roll(frames[:, -1], steps or self.config.predict)


def assert_same_scores(got, expected, terms):
    """Scores of frames of ``terms`` values, formed twice from the same numbers: their sums may be taken in another
    order, which costs up to a rounding a term, counted 8 times for what follows the sum. Infinite ones are equal."""
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    assert (got[~finite] == expected[~finite]).all()
    size = np.abs(expected[finite]).max(initial=1.0)
    assert np.abs(got[finite] - expected[finite]).max(initial=0.0) <= 8 * terms * np.finfo(np.float64).eps * size
