"""Settings with a range, a meaning and a clear sentence when a value does not fit. Reads no files."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

WHO = "lstmrep.train.Config"
Section = TypeVar("Section")


def setting(
    default: bool | int | float | str,
    meaning: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that knows its range.

    Args:
        default: its value where none is given; the type of values is the type of this one.
        meaning: one line for the reference table.
        low, above, high, below: value >= low, value > above, value <= high, value < below.
        choices: the words that a text may be.

    Returns:
        What ``dataclasses.field`` returns.
    """
    range_ = {"low": low, "above": above, "high": high, "below": below}
    return dataclasses.field(default=default, metadata={"meaning": meaning, "choices": choices, **range_})


def checked(section: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """``value`` in the field's own type.

    Raises:
        TypeError, ValueError: it is of another type, not finite, out of range, or not one of the choices.
    """
    name, kind = f"{section}.{field.name}", _kind(field)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"{WHO}: {name} is {value!r}, expected {_KINDS[kind]}.")
    if isinstance(value, str):
        choices = field.metadata["choices"]
        if choices and value not in choices:
            raise ValueError(f"{WHO}: {name} is {value!r}; choose one of {', '.join(choices)}.")
    elif not math.isfinite(value):
        raise ValueError(f"{WHO}: {name} is {value}, expected a finite number.")
    elif not _inside(value, field.metadata):
        raise ValueError(f"{WHO}: {name} is {value!r}, expected {range_text(field)}.")
    return value


def _kind(field: dataclasses.Field[Any]) -> Any:
    return type(field.default)


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _inside(value: float, limits: Mapping[str, Any]) -> bool:
    low, above, high, below = (limits[k] for k in ("low", "above", "high", "below"))
    return (
        (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )


def range_text(field: dataclasses.Field[Any]) -> str:
    """The values a field takes, in words."""
    limits = field.metadata
    if isinstance(field.default, bool):
        return "true or false"
    if limits["choices"]:
        return ", ".join(limits["choices"])
    parts = [
        text.format(limits[key])
        for key, text in (
            ("low", "{} or more"),
            ("above", "more than {}"),
            ("high", "{} or less"),
            ("below", "less than {}"),
        )
        if limits[key] is not None
    ]
    return " and ".join(parts) or _KINDS[_kind(field)]


def check_section(section: str, instance: Any) -> None:
    """Check every field of a frozen dataclass and hold it in its own type (1 becomes 1.0 where a float is meant)."""
    for field in dataclasses.fields(instance):
        object.__setattr__(instance, field.name, checked(section, field, getattr(instance, field.name)))


def make_section(section: str, kind: type[Section], values: Any) -> Section:
    """The dataclass ``kind`` from a table.

    Raises:
        TypeError, ValueError: not a table, or a key is not known; the nearest known one is named.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{WHO}: section '{section}' is {values!r}, expected a table of settings.")
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(f"{WHO}: setting '{section}.{key}' is not known; {nearest(key, known)}.")
    return kind(**values)


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` in a form that ends a sentence; all known words where none is near."""
    known = list(known)
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{close[0]}'" if close else f"known are {', '.join(known)}"
