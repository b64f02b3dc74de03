"""Fields of the released code's messages, taken by name and type; those never taken are known at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lstmrep.train import textformat

WHO = "lstmrep.train.pbtxt.load"
REPEATED = ("lstm", "lstm_dec", "lstm_future", "timestamp")
Kind = TypeVar("Kind", bool, int, float, str)
KINDS: dict[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}


class Fields:
    """One message. ``left`` are the fields never taken, ``place`` is where it stands in the file."""

    def __init__(self, values: Mapping[str, Any], path: str | Path, place: str = "") -> None:
        self.values, self.path, self.place = dict(values), path, place
        self.left = set(self.values)

    def has(self, name: str) -> bool:
        """Whether the file gives it."""
        return name in self.values

    def name(self, name: str) -> str:
        """Of a field, from the file's top."""
        return f"{self.place}.{name}" if self.place else name

    def wrong(self, name: str, why: str) -> ValueError:
        """The error about a field, to raise."""
        return ValueError(f"{WHO}: {self.path}: field '{self.name(name)}' {why}.")

    def take(self, name: str, default: Kind) -> Kind:
        """The value in the default's type, or the default."""
        self.left.discard(name)
        value, kind = self.values.get(name, default), type(default)
        if kind is bool and type(value) is int and value in (0, 1):
            value = bool(value)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            times = f"is given {len(value)} times" if isinstance(value, list) else f"is {value!r}"
            raise self.wrong(name, f"{times}, expected one {KINDS[kind]}")
        return value  # type: ignore[no-any-return]

    def texts(self, name: str) -> list[str]:
        """A repeated text."""
        self.left.discard(name)
        values = self.values.get(name, [])
        if not all(isinstance(v, str) for v in values):
            raise self.wrong(name, f"is {values!r}, expected texts")
        return list(values)

    def blocks(self, name: str) -> list[Fields]:
        """A block, or several, or none."""
        self.left.discard(name)
        values = self.values.get(name, [])
        listed = isinstance(values, list)
        for value in values if listed else [values]:
            if not isinstance(value, dict):
                raise self.wrong(name, f"is {value!r}, expected a block in braces")
        if listed:
            return [Fields(v, self.path, f"{self.name(name)}[{k}]") for k, v in enumerate(values)]
        return [Fields(values, self.path, self.name(name))]

    def note_rest(self, notes: list[str], why: str = "is not a field known here and was left out") -> None:
        """A note on each field never taken."""
        notes.extend(f"{self.name(name)} = {self.values[name]!r} {why}." for name in sorted(self.left))


def open_fields(path: str | Path) -> Fields:
    """The message in a file.

    Raises:
        FileNotFoundError, ValueError: there is no file, or it is not of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{WHO}: no file {path}.")
    try:
        return Fields(textformat.parse(path.read_text(encoding="utf-8"), REPEATED), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{WHO}: {path} is not text; pass a .pbtxt file.") from error
    except ValueError as error:
        raise ValueError(f"{WHO}: {path}: {str(error).removeprefix(f'{textformat.WHO}: ')}") from error
