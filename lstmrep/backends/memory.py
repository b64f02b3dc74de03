"""Fresh buffers. All memory comes from torch; under LSTMREP_POISON=1 it starts as NaN, so a value that a kernel
forgot to write, or read before writing, shows."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmrep import env

# Asked once: this is on the way of every call.
POISON = env.poison()


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, or one full of NaN when poisoning is on."""
    if POISON and dtype.is_floating_point:
        return torch.full(shape, float("nan"), dtype=dtype, device=device)
    return torch.empty(shape, dtype=dtype, device=device)


def workspace(size: int, device: torch.device) -> Tensor:
    """``size`` bytes of scratch. Poison is 0xFF everywhere: NaN in every floating-point format."""
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    return buffer.fill_(0xFF) if POISON else buffer
