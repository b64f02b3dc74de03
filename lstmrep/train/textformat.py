"""Protobuf's text format as plain values, without the protobuf package and without a schema.

Knows the language, not what fields mean: that is ``lstmrep.train.pbtxt``.  Extensions and ``Any`` (names in brackets)
are refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, NoReturn

WHO = "lstmrep.train.pbtxt.parse"
DEEPEST = 100

_TOKEN = re.compile(
    r"""(?P<skip>(?:\s|\#[^\n]*)+)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
    |(?P<word>-?[A-Za-z_]\w*)
    |(?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_PLAIN = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSING = {"{": "}", "<": ">"}
_TRUTH = {"true": True, "True": True, "false": False, "False": False}
_FLOATS = {"inf", "infinity", "nan"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def parse(text: str, repeated: Collection[str] = ()) -> dict[str, Any]:
    """Read a message.

    Args:
        text: the file's content: ``field: value``, ``field { ... }``, ``field: [a, b]``, comments from ``#``.
        repeated: names of fields that are lists also where they are given once.

    Returns:
        Fields by name, blocks as dictionaries. Texts and enum words are str, numbers int or float, ``true`` and
        ``false`` bool. A field given more than once is the list of its values.

    Raises:
        ValueError: the text is not of this format; one sentence with line and column.

    Example:
        >>> parse('name: "a"  # first\\nlstm { num_hid: 8 }', repeated={"lstm"})
        {'name': 'a', 'lstm': [{'num_hid': 8}]}
    """
    return _Reader(text, frozenset(repeated)).message(None, 0)


class _Reader:
    """Tokens with one to look at."""

    def __init__(self, text: str, repeated: frozenset[str]) -> None:
        self.text, self.repeated = text, repeated
        self.tokens = self._tokens()
        self.next = next(self.tokens)

    def message(self, opened: _Token | None, depth: int) -> dict[str, Any]:
        """Fields up to the block's end, or to the file's where no block was opened."""
        if depth > DEEPEST:
            self.fail(self.next, f"blocks lie more than {DEEPEST} deep")
        found: dict[str, list[Any]] = {}
        listed = set()
        while self.next.kind != "end" and self.next.text not in ("}", ">"):
            name = self.take()
            if name.kind != "word" or name.text.startswith("-"):
                self.fail(name, f"found {_shown(name)} where the name of a field is expected")
            values, is_list = self.field(name, depth)
            if is_list:
                listed.add(name.text)
            found.setdefault(name.text, []).extend(values)
            if self.next.text in (",", ";") and self.next.kind == "mark":
                self.take()
        self.close(opened)
        single = {name for name, values in found.items() if len(values) == 1} - self.repeated - listed
        return {name: values[0] if name in single else values for name, values in found.items()}

    def close(self, opened: _Token | None) -> None:
        """The mark that ends a block; nothing but the file's end where none was opened."""
        if opened is None:
            if self.next.kind != "end":
                self.fail(self.next, f"found {_shown(self.next)} where no block is open")
        elif self.next.text != _CLOSING[opened.text] or self.next.kind != "mark":
            line, column = self.place(opened)
            self.fail(
                self.next,
                f"found {_shown(self.next)} where the block opened at line {line}, column {column} ends with "
                f"'{_CLOSING[opened.text]}'",
            )
        else:
            self.take()

    def field(self, name: _Token, depth: int) -> tuple[list[Any], bool]:
        """What follows a field's name: its values, and whether they stood in brackets."""
        colon = self.next.text == ":" and self.next.kind == "mark"
        if colon:
            self.take()
        if self.next.kind != "mark":
            if not colon:
                self.fail(self.next, f"found {_shown(self.next)} where ':' or a block follows '{name.text}'")
            return [self.value(depth)], False
        if self.next.text == "[":
            self.take()
            return self.listed(depth), True
        return [self.value(depth)], False

    def listed(self, depth: int) -> list[Any]:
        """Values up to the bracket's end."""
        values: list[Any] = []
        while self.next.text != "]":
            values.append(self.value(depth))
            if self.next.text == ",":
                self.take()
            elif self.next.text != "]":
                self.fail(self.next, f"found {_shown(self.next)} where ',' or ']' is expected")
        self.take()
        return values

    def value(self, depth: int) -> Any:
        """One value or block."""
        token = self.take()
        if token.kind == "text":
            parts = [self.string(token)]
            while self.next.kind == "text":
                parts.append(self.string(self.take()))
            return "".join(parts)
        if token.kind == "number":
            return self.number(token)
        if token.kind == "word":
            word = token.text.lstrip("-")
            if word.lower() in _FLOATS:
                return float(token.text)
            if word != token.text:
                self.fail(token, f"found {_shown(token)} where a value is expected")
            return _TRUTH.get(word, word)
        if token.kind == "mark" and token.text in _CLOSING:
            return self.message(token, depth + 1)
        self.fail(token, f"found {_shown(token)} where a value is expected")

    def number(self, token: _Token) -> int | float:
        """Whole numbers in base 10, 16 (0x) or 8 (0), all else as float."""
        digits = token.text.lstrip("-")
        sign = -1 if digits != token.text else 1
        if digits[:2].lower() == "0x":
            return sign * int(digits, 16)
        if not digits.isdigit():
            return float(token.text.rstrip("fF"))
        if digits.strip("0") and digits[0] == "0":
            if set(digits) - set("01234567"):
                self.fail(token, f"found {token.text}, which starts like an octal number and is none")
            return sign * int(digits, 8)
        return sign * int(digits)

    def string(self, token: _Token) -> str:
        """A text without its quotes, escapes replaced."""

        def replaced(found: re.Match[bytes]) -> bytes:
            octal, two, four, eight, plain = found.groups()
            if octal or two:
                return bytes([int(octal, 8) & 255 if octal else int(two, 16)])
            if four or eight:
                point = int(four or eight, 16)
                if point > sys.maxunicode:
                    raise ValueError(f"there is no character U+{point:X}")
                return chr(point).encode()
            if plain[0] not in _PLAIN:
                raise ValueError(f"the escape \\{plain.decode(errors='replace')} is not known")
            return bytes([_PLAIN[plain[0]]])

        try:
            return _ESCAPE.sub(replaced, token.text[1:-1].encode()).decode()
        except UnicodeError:
            self.fail(token, f"the text {token.text} is not UTF-8")
        except ValueError as error:
            self.fail(token, f"in the text {token.text}, {error}")

    def take(self) -> _Token:
        """The next token; after the last there is nothing to take."""
        token = self.next
        if token.kind != "end":
            self.next = next(self.tokens)
        return token

    def _tokens(self) -> Iterator[_Token]:
        start = 0
        while start < len(self.text):
            found = _TOKEN.match(self.text, start)
            if found is None:
                run = re.compile(r"[\w.+-]+|.").match(self.text, start)
                wrong = _Token("wrong", run.group() if run else "", start)
                quote = self.text[start] in "\"'"
                why = "a text is not closed on its line" if quote else f"found {_shown(wrong)}, which has no meaning"
                self.fail(wrong, why)
            if found.lastgroup != "skip":
                yield _Token(str(found.lastgroup), found.group(), start)
            start = found.end()
        yield _Token("end", "", len(self.text))

    def place(self, token: _Token) -> tuple[int, int]:
        """Line and column, from 1."""
        before = self.text[: token.start]
        return before.count("\n") + 1, token.start - (before.rfind("\n") + 1) + 1

    def fail(self, token: _Token, what: str) -> NoReturn:
        """Raise the one sentence."""
        line, column = self.place(token)
        raise ValueError(f"{WHO}: line {line}, column {column}: {what}.")


def _shown(token: _Token) -> str:
    return "the end of the text" if token.kind == "end" else f"'{token.text[:40]}'"
