"""Numbers that are not finite: found before an update, and named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NotFiniteError(FloatingPointError):
    """A loss, a gradient or a parameter is NaN or infinite; nothing was updated or saved after it."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every element is finite; one pass over the memory, one wait for the device."""
    floating = [t.detach() for t in tensors if t.is_floating_point() and t.numel()]
    # The largest absolute value, not a norm of squares: those of float32 numbers above 2e19 overflow.
    largest = torch._foreach_norm(floating, torch.inf) if floating else []
    return bool(torch.stack([n.double().cpu() for n in largest]).isfinite().all()) if largest else True


def culprit(model: nn.Module, batch: Any, values: Mapping[str, float]) -> str:
    """What is not finite, the earliest in the way of the data: the batch, a parameter, a loss, a gradient.

    Args:
        model: after the backward pass.
        batch: what it was called with.
        values: losses by name.
    """
    for k, part in enumerate(batch if isinstance(batch, tuple) else (batch,)):
        if isinstance(part, Tensor) and not all_finite([part]):
            return f"part {k} of the batch itself" if isinstance(batch, tuple) else "the batch itself"
    for name, parameter in model.named_parameters():
        if not all_finite([parameter]):
            return f"parameter '{name}'"
    for name, value in reversed(list(values.items())):
        if not torch.isfinite(torch.tensor(value)):
            return f"'{name}'"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not all_finite([parameter.grad]):
            return f"the gradient of '{name}'"
    return "the norm of the gradient"


def refuse(step: int, what: str, kept: str, undone: str = "the update was not done") -> NotFiniteError:
    """The error for ``what`` at update ``step`` (from 1), with ``kept`` the last good checkpoint or empty, and what
    was left undone."""
    saved = f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"
    return NotFiniteError(
        f"lstmrep.train.Trainer: step {step}: {what} is not finite; {undone} and nothing was "
        f"overwritten, {saved}; lower optimizer.lr or set train.clip_norm."
    )
