"""What users have without this library: the peephole cell step by step, and the models made of torch's parts.

Parameters have the names that this library gives them, so one state_dict fits both and gradients compare by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

PEEPHOLES = ("weight_pi_l0", "weight_pf_l0", "weight_po_l0")


def cell(x: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, peepholes: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """One step: the input's share ``x [B, 4H]`` with its bias, the state before (c is float32), ``w_hh [H, 4H]``."""
    i, f, g, o = torch.addmm(x, h, w_hh).chunk(4, -1)
    if not peepholes:
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return (torch.sigmoid(o) * torch.tanh(c)).to(h.dtype), c
    p_i, p_f, p_o = peepholes
    i, f = torch.sigmoid(i + p_i * c), torch.sigmoid(f + p_f * c)
    c = f * c + i * torch.tanh(g)
    o = torch.sigmoid(o + p_o * c)
    return (o * torch.tanh(c)).to(h.dtype), c


class EagerLSTM(nn.Module):
    """One layer as a loop over :func:`cell`, the input's share of all steps in one product before it.

    Args:
        input_size: I; 0 for a layer that reads nothing.
        hidden_size: H.
        peephole: with peepholes.
        biases: names of the biases, which are added.
        compiled: the cell goes through ``torch.compile``; the loop stays Python's.
    """

    def __init__(
        self, input_size: int, hidden_size: int, peephole: bool, biases: tuple[str, ...], compiled: bool = False
    ) -> None:
        super().__init__()
        H = self.hidden_size = hidden_size
        self.biases = biases
        self.peepholes = PEEPHOLES if peephole else ()
        shapes = {"weight_hh_l0": (4 * H, H)} | dict.fromkeys(biases, (4 * H,)) | dict.fromkeys(self.peepholes, (H,))
        if input_size:
            shapes["weight_ih_l0"] = (4 * H, input_size)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.cell: Callable[..., tuple[Tensor, Tensor]] = torch.compile(cell) if compiled else cell

    def forward(
        self, x: Tensor | None, state: tuple[Tensor, Tensor] | None = None, steps: int = 0
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``x [T, B, I]``, or none for ``steps`` steps; returns h of all steps and the last state, as nn.LSTM does."""
        p = dict(self.named_parameters())
        bias = sum((p[b] for b in self.biases[1:]), p[self.biases[0]])
        if state is None:
            assert x is not None
            h = x.new_zeros(x.shape[1], self.hidden_size)
            c = torch.zeros_like(h, dtype=torch.float32)
        else:
            h, c = state[0][0], state[1][0]
        if x is None:
            shares = [bias.expand(h.shape[0], -1)] * steps
        else:
            shares = list(functional.linear(x, p["weight_ih_l0"], bias).unbind(0))
        w_hh, peepholes = p["weight_hh_l0"].t(), tuple(p[name] for name in self.peepholes)
        out = []
        for share in shares:
            h, c = self.cell(share, h, c, w_hh, peepholes)
            out.append(h)
        return torch.stack(out), (h[None], c[None])


class _Recurrence(nn.LSTM):
    """``torch.nn.LSTM``; one that reads nothing is given zeros, since it cannot do without an input."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(max(1, input_size), hidden_size)
        self.reads = input_size > 0

    def forward(self, x: Tensor | None, state: tuple[Tensor, Tensor] | None = None, steps: int = 0):  # type: ignore
        if x is None:
            assert state is not None
            x = state[0].new_zeros(steps, state[0].shape[1], 1)
        return super().forward(x, state)


def _recurrence(input_size: int, hidden_size: int, peephole: bool) -> nn.Module:
    if peephole:
        return EagerLSTM(input_size, hidden_size, True, ("bias_l0",))
    return _Recurrence(input_size, hidden_size)


class _Decoder(nn.Module):
    def __init__(self, frame: int, hidden_size: int, peephole: bool) -> None:
        super().__init__()
        self.lstm = _recurrence(0, hidden_size, peephole)
        self.head = nn.Linear(hidden_size, frame)

    def forward(self, state: tuple[Tensor, Tensor], steps: int) -> Tensor:
        return self.head(self.lstm(None, state, steps)[0])


class TorchComposite(nn.Module):
    """The unconditional composite model of torch's parts: eager peephole cells, or ``nn.LSTM`` without peepholes."""

    def __init__(self, frame: int, hidden_size: int, reconstruct: int, predict: int, peephole: bool) -> None:
        super().__init__()
        self.reconstruct, self.predict = reconstruct, predict
        self.encoder = _recurrence(frame, hidden_size, peephole)
        self.reconstruction = _Decoder(frame, hidden_size, peephole)
        self.future = _Decoder(frame, hidden_size, peephole)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """``frames [B, T, D]``; the loss, the encoder's state and both heads' frames, not yet through the sigmoid."""
        x = frames.transpose(0, 1)
        seen = x.shape[0] - self.predict
        _, state = self.encoder(x[:seen])
        told = self.reconstruction(state, self.reconstruct), self.future(state, self.predict)
        targets = x[:seen].flip(0)[: self.reconstruct], x[seen:]
        loss = sum(
            functional.binary_cross_entropy_with_logits(z.float(), y.float(), reduction="sum") / z[..., 0].numel()
            for z, y in zip(told, targets, strict=True)
        )
        assert isinstance(loss, Tensor)
        return {"loss": loss, "h": state[0], "c": state[1], "reconstruction": told[0], "future": told[1]}


class TorchClassifier(nn.Module):
    """The classifier of torch's parts."""

    def __init__(self, frame: int, hidden_size: int, classes: int, peephole: bool) -> None:
        super().__init__()
        self.lstm = _recurrence(frame, hidden_size, peephole)
        self.head = nn.Linear(hidden_size, classes)

    def forward(self, frames: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``frames [B, T, D]``, ``labels [B]``; the loss and each step's numbers ``[B, T, K]``."""
        logits = self.head(self.lstm(frames.transpose(0, 1))[0]).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(logits.shape[0]))
        return {"loss": loss, "logits": logits.transpose(0, 1)}


def names_in_common(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters under this library's names: a model's layers have one bias there, and ``nn.LSTM``'s two have its
    gradient each; weights of an input that is not there have no counterpart."""
    reads_nothing = {name for name, part in module.named_modules() if isinstance(part, _Recurrence) and not part.reads}
    of_torch = {name for name, part in module.named_modules() if isinstance(part, _Recurrence)}
    for name, parameter in module.named_parameters():
        owner, _, last = name.rpartition(".")
        if owner in reads_nothing and last == "weight_ih_l0":
            continue
        if owner in of_torch and last.startswith("bias_"):
            name = f"{owner}.bias_l0"
        yield name, parameter
