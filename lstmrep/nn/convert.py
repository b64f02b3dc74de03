"""Weights to and from torch.nn.LSTM. The names and the gate order are the same, so this copies and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lstmrep.nn.lstm import LSTM

ARGUMENTS = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
)


def from_torch(cls: type[LSTM], module: nn.LSTM, **options: Any) -> LSTM:
    """See ``LSTM.from_torch``."""
    if not isinstance(module, nn.LSTM):
        raise TypeError(
            f"lstmrep.LSTM.from_torch: argument 'module' is a {type(module).__name__}, expected a torch.nn.LSTM."
        )
    like = cast(Tensor, module.weight_ih_l0)
    arguments = {name: getattr(module, name) for name in ARGUMENTS}
    made = cls(**arguments, device=like.device, dtype=like.dtype, **options)
    with torch.no_grad():
        source = dict(module.named_parameters())
        for name, parameter in made.named_parameters():
            if name in source:
                parameter.copy_(source[name])
                parameter.requires_grad_(source[name].requires_grad)
            else:
                parameter.zero_()
    return made.train(module.training)


def to_torch(module: LSTM) -> nn.LSTM:
    """See ``LSTM.to_torch``."""
    if module.cell != "tanh":
        raise ValueError(
            f"lstmrep.LSTM.to_torch: the cell is {module.cell!r} and torch.nn.LSTM has tanh only; keep this module."
        )
    for name, parameter in module.named_parameters():
        if name.startswith("weight_p") and bool((parameter != 0).any()):
            raise ValueError(
                f"lstmrep.LSTM.to_torch: peephole '{name}' is not zero and torch.nn.LSTM has no peepholes; "
                "set it to zero or keep this module."
            )
    like = cast(Tensor, module.weight_ih_l0)
    made = nn.LSTM(**{name: getattr(module, name) for name in ARGUMENTS}, device=like.device, dtype=like.dtype)
    source = dict(module.named_parameters())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(source[name])
            parameter.requires_grad_(source[name].requires_grad)
    return made.train(module.training)
