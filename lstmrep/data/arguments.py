"""Checks of arguments, each with one sentence on what was given and what is expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", str, str | None)
Number = TypeVar("Number", int, float)


def one_of(caller: str, name: str, value: Name, known: Sequence[Name]) -> Name:
    """``value``, if it is one of the names known."""
    if value not in known:
        raise ValueError(f"{caller}: argument '{name}' is {value!r}, expected one of {', '.join(map(repr, known))}.")
    return value


def whole(caller: str, name: str, value: int, low: int, high: int | None = None) -> int:
    """``value`` as int, if it is an integer within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{caller}: argument '{name}' is {value!r}, expected an integer.")
    if value < low or (high is not None and value > high):
        bounds = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{caller}: argument '{name}' is {value}, expected {bounds}.")
    return int(value)


def real(caller: str, name: str, value: float, low: float, high: float = math.inf) -> float:
    """``value`` as float, if it is a finite number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: argument '{name}' is {value!r}, expected a number.")
    if not low <= value <= high or math.isinf(value):
        bounds = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        raise ValueError(f"{caller}: argument '{name}' is {value}, expected {bounds}.")
    return float(value)


def two(caller: str, name: str, value: Number | Sequence[Number]) -> tuple[Number, Number]:
    """One number for both, or two of them."""
    if not isinstance(value, Sequence):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{caller}: argument '{name}' is {value!r}, expected one number or two.")
    return value[0], value[1]


def ordered(caller: str, name: str, low: float, high: float) -> None:
    """Refuse a range that runs backwards."""
    if low > high:
        raise ValueError(f"{caller}: argument '{name}' is ({low}, {high}), expected the lower number first.")
