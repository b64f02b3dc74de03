"""Whether autocast is on for a device type, and a context in which it is off."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

_NO_CONTEXT = contextlib.nullcontext()


def is_on(like: Tensor) -> bool:
    """Autocast is on for tensors on this one's device (never for meta tensors, which torch does not know there)."""
    # One cheap question for all devices comes first; compilers know the other one better.
    if not torch.compiler.is_compiling() and not torch._C._is_any_autocast_enabled():
        return False
    device = like.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def off(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Products inside run in the dtypes they are given, whatever context the caller, or the backward pass, is in."""
    return torch.autocast(like.device.type, enabled=False) if is_on(like) else _NO_CONTEXT
