"""Whether autocast is on for a device type, and a context in which it is off."""

from __future__ import annotations

import contextlib

import torch

_NO_CONTEXT = contextlib.nullcontext()


def is_anywhere_on() -> bool:
    """Whether ``is_on`` need be asked at all: one cheap question for all device types, without a look at a tensor."""
    return torch.compiler.is_compiling() or torch._C._is_any_autocast_enabled()  # compilers know ``is_on`` better


def is_on(device: str) -> bool:
    """Autocast is on for tensors of this device type (never for meta tensors, which torch does not know there)."""
    return device != "meta" and torch.is_autocast_enabled(device)


def off(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Products inside run in the dtypes they are given, whatever context the caller, or the backward pass, is in."""
    if is_anywhere_on() and is_on(device.type):
        return torch.autocast(device.type, enabled=False)
    return _NO_CONTEXT
