"""What a model costs: parameters, floating point operations of a clip, the name of the device it ran on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lstmrep import machine


def parameters(model: nn.Module) -> int:
    """Numbers that the model holds as parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def flops_per_clip(config: Any, input_frames: int) -> int:
    """Floating point operations of one forward pass for one clip, a multiplication and an addition counted as two.

    Each layer that sees I numbers and has H units takes ``2 * 4H * I`` at every step that has an input and
    ``2 * 4H * H`` at every step that has a state before it; the head takes ``2 * H * D`` for every frame of D values
    that it makes. Matrix products only: the sums, non-linearities and peepholes are below 1 % of them for H of 100 or
    more.

    Where steps have neither input nor state: the encoder's first step starts from zero; a conditional decoder's first
    step reads no frame; with ``handover="copy"`` a decoder's first frame is read from the encoder's state itself.

    Args:
        config: a ``CompositeConfig`` (``input_size``, ``hidden_size``, ``num_layers``, ``reconstruct``, ``predict``,
            ``conditional_reconstruction``, ``conditional_future``, ``handover``).
        input_frames: frames that the encoder reads.

    Returns:
        The count.
    """
    D, H, L = config.input_size, config.hidden_size, config.num_layers
    gates = 2 * 4 * H
    total = gates * (input_frames * (D + (L - 1) * H) + (input_frames - 1) * L * H)
    for steps, conditional in (
        (config.reconstruct, config.conditional_reconstruction),
        (config.predict, config.conditional_future),
    ):
        if not steps:
            continue
        runs = steps - 1 if config.handover == "copy" else steps
        read = (steps - 1) * D if conditional else 0
        total += gates * (read + runs * (L - 1) * H + runs * L * H) + 2 * H * D * steps
    return int(total)


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's instruction set and the threads that torch uses."""
    here = machine.current(device)
    if device.type == "cuda":
        return here.gpu or "cuda"
    isa = f", {here.isa}" if here.isa else ""
    return f"{device.type}{isa}, {here.threads} thread{'' if here.threads == 1 else 's'}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
