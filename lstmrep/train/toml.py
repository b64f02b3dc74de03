"""Tables of plain values written as TOML. Reading is the standard library's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """One ``[section]`` a table; entries that are none are left out, since TOML has no such value.

    Raises:
        TypeError: a value is not a text, number, truth, list or table of such.
    """
    parts = []
    for name, table in tables.items():
        lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if v is not None]
        parts.append("\n".join([f"[{_key(name)}]", *lines]) + "\n")
    return "\n".join(parts)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    # JSON's text is TOML's, but for surrogates (kept as they are) and DEL, which must be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{inner}}}"
    raise TypeError(f"lstmrep.train.Config: {value!r} is a {type(value).__name__}, which TOML cannot hold.")
