"""Checks of the models' arguments: one sentence with the argument, what was expected and what to do."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Protocol

from torch import Tensor

from lstmrep.ops import autocast


class Ordered(Protocol):
    """A configuration that says in which order frames come."""

    @property
    def batch_first(self) -> bool: ...  # noqa: D102


def count(who: str, name: str, value: object, least: int) -> int:
    """A whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who}: argument '{name}' is {value!r}, expected a whole number of {least} or more.")
    if value < least:
        raise ValueError(f"{who}: argument '{name}' is {value}, expected {least} or more.")
    return value


def check_sizes(who: str, input_size: object, hidden_size: object, num_layers: object) -> None:
    """The three sizes that every model has."""
    count(who, "input_size", input_size, 1)
    count(who, "hidden_size", hidden_size, 1)
    count(who, "num_layers", num_layers, 1)


def option(who: str, name: str, value: object) -> None:
    """A flag."""
    if not isinstance(value, bool):
        raise TypeError(f"{who}: argument '{name}' is {value!r}, expected True or False.")


def choice(who: str, name: str, value: object, known: Collection[str]) -> None:
    """One of some names."""
    if value not in known:
        raise ValueError(f"{who}: argument '{name}' is {value!r}, expected one of {', '.join(known)}.")


def finite(who: str, name: str, value: object, least: float = 0.0) -> None:
    """A finite number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{who}: argument '{name}' is {value!r}, expected a number.")
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{who}: argument '{name}' is {value}, expected a finite number of {least:g} or more.")


def probability(who: str, name: str, value: object) -> None:
    """A number from 0 to below 1, for dropout."""
    finite(who, name, value)
    if isinstance(value, (int, float)) and value >= 1:
        raise ValueError(f"{who}: argument '{name}' is {value}, expected a probability below 1.")


def check_frames(who: str, name: str, frames: object, size: int, fewest: int, weight: Tensor, config: Ordered) -> None:
    """Frames ``[B, T, *frame]`` (``[T, B, *frame]``) with ``size`` values a frame and at least ``fewest`` of them."""
    who = f"lstmrep.{who}"
    order = "[B, T, *frame]" if config.batch_first else "[T, B, *frame]"
    if not isinstance(frames, Tensor):
        raise TypeError(f"{who}: argument '{name}' is a {type(frames).__name__}, expected a Tensor {order}.")
    if frames.dim() < 3:
        raise ValueError(
            f"{who}: argument '{name}' has shape {tuple(frames.shape)}, expected {order}; add the missing dimension, "
            "for one clip with frames.unsqueeze."
        )
    values = math.prod(frames.shape[2:])
    if values != size:
        raise ValueError(
            f"{who}: argument '{name}' has shape {tuple(frames.shape)}, so {values} values a frame, expected "
            f"input_size = {size} after {order[:5]}]; check the order of its dimensions."
        )
    steps = frames.shape[1 if config.batch_first else 0]
    if steps < fewest:
        raise ValueError(
            f"{who}: argument '{name}' has {steps} frames, expected at least {fewest} (input, then the future to "
            f"predict); its shape is {tuple(frames.shape)}, read as {order}."
        )
    if not frames.is_floating_point():
        raise TypeError(
            f"{who}: argument '{name}' is {frames.dtype}, expected {weight.dtype}; pass frames.float() / 255."
        )
    if frames.dtype != weight.dtype and not autocast.is_on(frames):
        raise TypeError(
            f"{who}: argument '{name}' is {frames.dtype}, expected {weight.dtype} like the weights; pass "
            f"frames.to({weight.dtype}), or use torch.autocast."
        )
    if frames.device != weight.device:
        raise ValueError(
            f"{who}: argument '{name}' is on {frames.device}, the weights are on {weight.device}; pass "
            f"frames.to('{weight.device}')."
        )
