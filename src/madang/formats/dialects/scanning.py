"""Reading a piece of text that may not be all there yet.

Every function takes a text and a position, and returns a position behind what it read. It raises Unfinished when more
text decides, and NotACall when none can; both answers stay true whatever text follows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

_SPACE: Final = re.compile(r"\s*")
_IN_JSON: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[\s\w,:+.-]+', re.DOTALL)
_IN_PYTHON: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|'
    r"'''(?:[^\\]|\\.)*?'''|"
    r'"(?!"")(?:[^"\\\n]|\\.)*"|'
    r"'(?!'')(?:[^'\\\n]|\\.)*'|"
    r"[\[({]|[\])}]|[^\[\](){}\"'`]+",
    re.DOTALL,
)
_CLOSING: Final = {"[": "]", "{": "}", "(": ")"}


class Unfinished(Exception):
    """The text so far may become a call."""


class NotACall(Exception):
    """The text up to ``end`` is plain."""

    def __init__(self, end: int) -> None:
        super().__init__(end)
        self.end = end


def skip_space(text: str, at: int) -> int:
    """Over any blanks."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def expect(text: str, at: int, literal: str) -> int:
    """Over ``literal``."""
    if text.startswith(literal, at):
        return at + len(literal)
    if literal.startswith(text[at:]):
        raise Unfinished
    raise NotACall(at)


def json_end(text: str, at: int, opening: str) -> int:
    """Over a JSON object or list, which begins with ``opening``; brackets and strings are checked, the rest is not."""
    return _balanced_end(text, at, opening, _IN_JSON)


def python_end(text: str, at: int, opening: str) -> int:
    """Over a bracketed piece of Python without comments, which begins with ``opening``."""
    return _balanced_end(text, at, opening, _IN_PYTHON)


def _balanced_end(text: str, at: int, opening: str, lexeme: re.Pattern[str]) -> int:
    expect(text, at, opening)
    open_brackets: list[str] = []
    while at < len(text):
        match = lexeme.match(text, at)
        if match is None:
            if text[at] in "\"'":  # a string without an end, so far
                raise Unfinished
            raise NotACall(at)
        first = match[0][0]
        if first in _CLOSING:
            open_brackets.append(_CLOSING[first])
        elif first in "]})" and open_brackets.pop() != first:
            raise NotACall(at)
        at = match.end()
        if not open_brackets:
            return at
    raise Unfinished


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


def partial_length(text: str, literals: tuple[str, ...]) -> int:
    """Length of the longest end of ``text`` that begins one of ``literals`` without being all of it."""
    longest = max(map(len, literals), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        tail = text[-length:]
        if any(literal.startswith(tail) for literal in literals):
            return length
    return 0


def first_of(text: str, literals: tuple[str, ...]) -> int:
    """Where the first of ``literals`` begins; -1 when there is none."""
    return min((at for at in _finds(text, literals) if at >= 0), default=-1)


def _finds(text: str, literals: tuple[str, ...]) -> Iterator[int]:
    for literal in literals:
        yield text.find(literal)
