"""A training step of the composite model in few launches, counted on the emulated device.

Beside it stand two models of plain torch, the same sizes, decoders and losses: one whose peephole cells run step by
step, and one of ``torch.nn.LSTM`` (which has no peepholes, and whose decoders read zeros).  Those run on the CPU, where
``nn.LSTM`` is taken apart otherwise than by cuDNN: its figure is the count of its ATen calls, not of launches on a GPU.
"""

import emulated
import pytest
import torch
from emulated_device import Card, emulated_device
from torch import nn
from torch.nn import functional

import lstmrep
from lstmrep.backends import memory
from lstmrep.backends.reference import cell_forward

CARD = Card("132 SMs", 9, 0, 132, 227 << 10)
B, D, H, SEEN, TOLD = 5, 64, 64, 4, 4
DTYPE = torch.bfloat16
MOST_FORWARD, MOST_STEP = 6, 16


@pytest.fixture(autouse=True)
def _without_poison(monkeypatch):
    """Filling fresh buffers with NaN is the tests' own habit; it would count as launches."""
    monkeypatch.setattr(memory, "POISON", False)


class PeepholeCell(nn.Module):
    """One layer, a step at a time."""

    def __init__(self, inputs):
        super().__init__()
        self.w_ih = nn.Parameter(torch.randn(4 * H, inputs) * H**-0.5) if inputs else None
        self.w_hh = nn.Parameter(torch.randn(4 * H, H) * H**-0.5)
        self.bias = nn.Parameter(torch.zeros(4 * H))
        self.peephole = nn.Parameter(torch.zeros(3, H))

    def forward(self, x, h, c):
        pre = functional.linear(h, self.w_hh, self.bias)
        if self.w_ih is not None:
            pre = pre + functional.linear(x, self.w_ih)
        *_, c, h = cell_forward(pre, c, self.peephole, "tanh")
        return h, c


class Eager(nn.Module):
    """The composite of peephole cells, in plain torch."""

    def __init__(self):
        super().__init__()
        self.encoder, self.past, self.future = PeepholeCell(D), PeepholeCell(0), PeepholeCell(0)
        self.heads = nn.ModuleList(nn.Linear(H, D) for _ in range(2))

    def states(self, frames):
        h = c = frames.new_zeros(B, H)
        for t in range(SEEN):
            h, c = self.encoder(frames[:, t], h, c)
        for cell in (self.past, self.future):
            out, state = [], (h, c)
            for _ in range(TOLD):
                state = cell(None, *state)
                out.append(state[0])
            yield torch.stack(out)

    def forward(self, frames):
        x = frames.transpose(0, 1)
        targets = x[:SEEN].flip(0), x[SEEN:]
        losses = []
        for h, head, target in zip(self.states(frames), self.heads, targets, strict=True):
            z = head(h)
            loss = functional.binary_cross_entropy_with_logits(z.float(), target.float(), reduction="sum")
            losses.append(loss / (TOLD * B))
        return losses[0] + losses[1]


class OfTorch(Eager):
    """The same of ``torch.nn.LSTM``."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(D, H, batch_first=True)
        self.past, self.future = nn.LSTM(1, H), nn.LSTM(1, H)

    def states(self, frames):
        _, state = self.encoder(frames[:, :SEEN])
        for lstm in (self.past, self.future):
            yield lstm(frames.new_zeros(TOLD, B, 1), state)[0]


def count(step):
    """Counts of the forward pass, the loss included, and of the backward pass to all parameters."""
    with lstmrep.count_launches() as forward:
        loss = step()
    with lstmrep.count_launches() as backward:
        loss.backward()
    return forward, backward


def described(name, counts):
    forward, backward = counts
    lines = [f"{name}: {forward.total} forward, {forward.total + backward.total} forward and backward"]
    lines += [f"  {which:8} {one}" for which, one in (("forward", forward), ("backward", backward))]
    return "\n".join(lines)


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kernel", ["cta_resident", "grid_resident"])
def test_a_training_step_within_the_bounds(kernel, batch_first, dtype):
    frames = torch.rand(B, SEEN + TOLD, 8, 8).to(dtype)
    model = lstmrep.CompositeModel(D, H, reconstruct=TOLD, predict=TOLD, batch_first=batch_first).to(dtype)
    given = frames if batch_first else frames.transpose(0, 1).contiguous()
    with emulated_device(CARD, kernel=kernel):
        ours = count(lambda: model(given).loss)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    flat = frames.flatten(2)
    eager, torchs = Eager().to(dtype), OfTorch().to(dtype)
    counts = {"lstmrep": ours, "peephole cells in eager torch": count(lambda: eager(flat))}
    counts["torch.nn.LSTM (ATen calls on the CPU)"] = count(lambda: torchs(flat))
    text = "\n".join(described(*pair) for pair in counts.items())
    print(f"\n{text}")
    forward, backward = ours
    own = "grid" if kernel == "grid_resident" else "resident"
    assert forward.own == {f"{own}_forward": 2, "frame_loss_forward": 1}, text
    assert backward.own == {f"{own}_backward": 2, "frame_loss_backward": 1}, text
    assert forward.total <= MOST_FORWARD and forward.total + backward.total <= MOST_STEP, text
    assert all(f.total > ours[0].total for f, _ in list(counts.values())[1:]), text


@pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")
def test_the_count_grows_when_a_parameter_has_to_be_copied():
    """The bound is not met by a counter that looks away: heads apart in memory cost a product more each way."""
    model = lstmrep.CompositeModel(D, H, reconstruct=TOLD, predict=TOLD, dtype=DTYPE)
    frames = torch.rand(B, SEEN + TOLD, D).to(DTYPE)
    with emulated_device(CARD):
        together = count(lambda: model(frames).loss)
        model.zero_grad()
        model.future.head.weight.data = model.future.head.weight.data.clone()
        apart = count(lambda: model(frames).loss)
    assert [a.total - b.total for a, b in zip(apart, together, strict=True)] == [1, 1]
