"""Whether autocast is on for a device type, and a context in which it is off."""

from __future__ import annotations

import contextlib

import torch

_NO_CONTEXT = contextlib.nullcontext()


def is_on(device: str) -> bool:
    """Autocast is on for tensors of this device type (never for meta tensors, which torch does not know there)."""
    return device != "meta" and torch.is_autocast_enabled(device)


def off(device: str) -> contextlib.AbstractContextManager[object]:
    """Products inside run in the dtypes they are given, whatever context the caller, or the backward pass, is in."""
    return torch.autocast(device, enabled=False) if is_on(device) else _NO_CONTEXT
