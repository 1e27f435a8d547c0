"""Reading a call out of text that is still growing.

A scan is a generator: it yields when only more text can decide, goes on where it stopped when it is resumed, and
returns a position behind what it read, or raises NotACall. What it returns or raises stays true whatever text follows.
It looks at each character a fixed number of times however the text arrives, so a hostile answer costs linear time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, TypeVar

MAX_BLANKS: Final = 256  # that belong to a call or a tag behind them; what is before them is text

T = TypeVar("T")
Scan: TypeAlias = Generator[None, None, T]

_SPACE: Final = re.compile(r"\s*")
_CLOSING: Final = {"[": "]", "{": "}", "(": ")"}


class _Language(NamedTuple):
    """What may stand between brackets: other brackets, strings, and characters that mean nothing here."""

    brackets: str
    other: re.Pattern[str]
    strings: Mapping[str, re.Pattern[str]]  # by what closes them: all of a string that does not


_JSON: Final = _Language("{}[]", re.compile(r"[\s\w,:+.-]+"), {'"': re.compile(r'(?:[^"\\]+|\\.)*', re.DOTALL)})
_PYTHON: Final = _Language(
    "{}[]()",
    re.compile(r"[^\[\](){}\"'`]+"),
    {
        '"': re.compile(r'(?:[^"\\\n]+|\\.)*', re.DOTALL),
        "'": re.compile(r"(?:[^'\\\n]+|\\.)*", re.DOTALL),
        '"""': re.compile(r'(?:[^"\\]+|\\.)*', re.DOTALL),
        "'''": re.compile(r"(?:[^'\\]+|\\.)*", re.DOTALL),
    },
)


class NotACall(Exception):
    """The text up to ``end`` is plain."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


class Source:
    """Text that grows at its end. Scans do not keep ``text`` across a yield, so that it can grow in place."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = ""

    def append(self, piece: str) -> None:
        """More text."""
        text, self.text = self.text, ""  # CPython extends a string in place when it has one owner
        text += piece
        self.text = text


# ---- scans


def skip(source: Source, at: int, pattern: re.Pattern[str] = _SPACE) -> Scan[int]:
    """Over all that matches ``pattern``, a repeated class of characters; blanks if not told otherwise."""
    while True:
        match = pattern.match(source.text, at)
        at = match.end() if match else at
        if at < len(source.text):
            return at
        yield


def one_of(source: Source, at: int, literals: tuple[str, ...]) -> Scan[str]:
    """The one of ``literals`` that stands here; none of them begins another."""
    longest = max(map(len, literals))
    while True:
        here = source.text[at : at + longest]
        for literal in literals:
            if here.startswith(literal):
                return literal
        if not any(literal.startswith(here) for literal in literals):
            raise NotACall(at)
        yield


def expect(source: Source, at: int, literal: str) -> Scan[int]:
    """Over ``literal``."""
    yield from one_of(source, at, (literal,))
    return at + len(literal)


def find(source: Source, at: int, literal: str) -> Scan[int]:
    """Where the next ``literal`` begins."""
    while True:
        found = source.text.find(literal, at)
        if found >= 0:
            return found
        at = max(at, len(source.text) - len(literal) + 1)
        yield


def json_end(source: Source, at: int, opening: str) -> Scan[int]:
    """Over a JSON object or list, which begins with ``opening``; brackets and strings are checked, the rest is not."""
    return _balanced_end(source, at, opening, _JSON)


def python_end(source: Source, at: int, opening: str) -> Scan[int]:
    """Over a bracketed piece of Python without comments, which begins with ``opening``."""
    return _balanced_end(source, at, opening, _PYTHON)


def _balanced_end(source: Source, at: int, opening: str, language: _Language) -> Scan[int]:
    at = yield from expect(source, at, opening)
    open_brackets = [_CLOSING[opening]]
    while open_brackets:
        if at == len(source.text):
            yield
            continue
        first = source.text[at]
        if first in language.brackets:
            if first in _CLOSING:
                open_brackets.append(_CLOSING[first])
            elif open_brackets.pop() != first:
                raise NotACall(at)
            at += 1
        elif first in language.strings:
            at = yield from _string_end(source, at, language)
        else:
            match = language.other.match(source.text, at)
            if match is None:
                raise NotACall(at)
            at = match.end()
    return at


def _string_end(source: Source, at: int, language: _Language) -> Scan[int]:
    """Over the string that begins here."""
    closing = yield from _closing(source, at, language)
    content = language.strings[closing]
    at += len(closing)
    while True:
        match = content.match(source.text, at)
        at = match.end() if match else at
        tail = source.text[at : at + len(closing)]
        if tail == closing:
            return at + len(closing)
        if tail == "\\" or closing.startswith(tail):
            yield
        elif len(closing) == 1:  # the line ended before the string
            raise NotACall(at)
        else:
            at += 1


def _closing(source: Source, at: int, language: _Language) -> Scan[str]:
    """What closes the string that begins here: as many quotation marks as open it."""
    quote = source.text[at]
    if 3 * quote not in language.strings:
        return quote
    while True:
        here = source.text[at : at + 3]
        if here == 3 * quote:
            return here
        if not (3 * quote).startswith(here):
            return quote
        yield


# ---- what is there already


def read_json(text: str, begin: int, end: int) -> Any:
    """The JSON value between two positions; raw line breaks in strings are let through, as models write them."""
    try:
        return json.loads(text[begin:end], strict=False, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise NotACall(end) from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def named_arguments(value: Any, key: str, end: int) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of a call written as a JSON object with ``name`` and ``key``; no arguments if that is absent.

    Arguments that are an object in a string, as in the OpenAI API, are unwrapped.
    """
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise NotACall(end)
    arguments = value.get(key, {})
    if isinstance(arguments, str):
        arguments = read_json(arguments, 0, len(arguments)) if arguments.lstrip().startswith("{") else None
    if not isinstance(arguments, dict):
        raise NotACall(end)
    return value["name"], arguments


def blanks_end(text: str, at: int) -> int:
    """Over the blanks that are there."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def blanks_begin(text: str, begin: int, at: int) -> int:
    """Where the blanks before ``at`` begin that belong to what stands there; not before ``begin``."""
    begin = max(begin, at - MAX_BLANKS)
    return begin + len(text[begin:at].rstrip())


def partial_length(text: str, literals: tuple[str, ...], at: int = 0) -> int:
    """Length of the longest end of ``text``, behind ``at``, that begins one of ``literals`` without being all of it."""
    longest = max(map(len, literals), default=1) - 1
    for length in range(min(longest, len(text) - at), 0, -1):
        tail = text[-length:]
        if any(literal.startswith(tail) for literal in literals):
            return length
    return 0


def first_of(text: str, literals: tuple[str, ...], at: int) -> int:
    """Where the first of ``literals`` begins that does not begin before ``at``; -1 when there is none."""
    found = (text.find(literal, at) for literal in literals)
    return min((place for place in found if place >= 0), default=-1)
