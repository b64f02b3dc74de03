"""What a model says about a batch: its loss and, where it has them, the parts and the accuracy. Updates nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# The order in which values travel between processes.
NAMES = ("loss", "reconstruction_loss", "future_loss", "accuracy")
SHORT = {"loss": "Loss", "reconstruction_loss": "Dec", "future_loss": "Fut", "accuracy": "Acc"}


def call(model: nn.Module, batch: Any, batch_first: bool = True, **options: Any) -> Any:
    """``model(frames)``, or ``model(frames, labels)`` where the batch is a tuple.

    Args:
        model: called with the batch and ``options``.
        batch: frames ``[B, T, ...]``, or a tuple that starts with them.
        batch_first: how the model takes them; False gives it ``[T, B, ...]``.
        options: keyword arguments of the call.
    """
    parts = batch if isinstance(batch, tuple) else (batch,)
    if not batch_first:
        parts = (parts[0].transpose(0, 1), *parts[1:])
    return model(*parts, **options)


def frames_first(model: nn.Module) -> bool:
    """Whether the model takes ``[B, T, ...]``, as its config says; modules without one do."""
    return bool(getattr(getattr(model, "config", None), "batch_first", True))


def size(batch: Any) -> int:
    """B of a batch."""
    return int((batch[0] if isinstance(batch, tuple) else batch).shape[0])


def measure(output: Any, batch: Any) -> dict[str, Tensor]:
    """Scalars of a model's output, by ``NAMES``; those it does not have are left out.

    Args:
        output: a scalar loss, a mapping with ``"loss"``, or an object with an attribute ``loss``.
        batch: what the model was called with; labels are its second part.

    Raises:
        TypeError: there is no scalar loss.
    """
    found: dict[str, Tensor] = {}
    if isinstance(output, Tensor):
        found["loss"] = output
    else:
        for name in NAMES[:3]:
            value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
            if isinstance(value, Tensor):
                found[name] = value
    if "loss" not in found or found["loss"].ndim:
        raise TypeError(
            f"lstmrep.train.Trainer: the model returned a {type(output).__name__} without a scalar loss; return one as "
            "it is, or something with an attribute 'loss'."
        )
    probabilities = getattr(output, "probabilities", None)
    if isinstance(probabilities, Tensor) and isinstance(batch, tuple) and len(batch) > 1:
        found["accuracy"] = (probabilities.argmax(-1) == batch[1]).double().mean()
    return found


def packed(values: Mapping[str, Tensor], *more: Tensor) -> Tensor:
    """One float64 vector: ``values`` in the order of ``NAMES`` (0 where missing), then ``more``."""
    zero = values["loss"].new_zeros(())
    numbers = [values.get(name, zero) for name in NAMES] + list(more)
    return torch.stack([n.detach().to(zero.device).double() for n in numbers])


def line(values: Mapping[str, float], prefix: str = "") -> str:
    """``Dec 213.17694 Fut 345.98576`` as the released code logs, or ``Loss 2.30259 Acc 0.10000``."""
    parts = [name for name in NAMES[1:3] if prefix_of(prefix) + name in values]
    names = (parts or ["loss"]) + ["accuracy"]
    shown = [(SHORT[n], values[prefix_of(prefix) + n]) for n in names if prefix_of(prefix) + n in values]
    letter = {"": "", "valid": "V", "teacher": "T"}[prefix]
    return " ".join(f"{letter}{short} {value:.5f}" for short, value in shown)


def prefix_of(kind: str) -> str:
    """How a record names values: plain in training, ``valid_`` free-running, ``teacher_`` teacher-forced."""
    return f"{kind}_" if kind else ""
