"""Llama 3: the answer is ``{"name": …, "parameters": {…}}``, several divided by ``;``, perhaps after <|python_tag|>.

Built-in tools are written as Python, ``<|python_tag|>brave_search.call(query="…")``; other Python behind the tag is
plain text. Without the tag there is no marker, so only an answer that begins with the call of a known tool is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from madang.core.messages import Tool
from madang.formats.dialects.literals import read_call
from madang.formats.dialects.scanning import (
    NotACall,
    Unfinished,
    json_end,
    named_arguments,
    python_end,
    read_json,
    skip_space,
)
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_object_rules

_TAG = "<|python_tag|>"
_BEGINNINGS = ('{"name":"', '{"type":"function","name":"', '{"function":"')
_BUILT_IN: Final = re.compile(r"(\w+)\.call(?=\()")
_BUILT_IN_SO_FAR: Final = re.compile(r"\w+(\.(c(a(l(l)?)?)?)?)?")


def begins(text: str) -> bool | None:
    """Whether the answer looks like a call: an object whose first member is the name."""
    compact = re.sub(r"\s+", "", text[:200])
    for beginning in _BEGINNINGS:
        if compact.startswith(beginning):
            return True
        if beginning.startswith(compact):
            return None
    return False


def read(text: str, at: int, names: Names) -> Found:
    """One call: of a known tool, or of any behind the tag."""
    tagged = text.startswith(_TAG, at)
    at = skip_space(text, at + len(_TAG)) if tagged else at
    if at == len(text):
        raise Unfinished
    if tagged and text[at] != "{":
        return _read_built_in(text, at)
    end = json_end(text, at, "{")
    value = read_json(text, at, end)
    if isinstance(value, dict) and isinstance(value.get("function"), str):
        value = {**value, "name": value["function"]}
    key = "arguments" if isinstance(value, dict) and "arguments" in value else "parameters"
    name, arguments = named_arguments(value, key, end)
    if name not in names and not tagged:
        raise NotACall(end)
    return Found(end, [(name, arguments)])


def _read_built_in(text: str, at: int) -> Found:
    match = _BUILT_IN.match(text, at)
    if match is None:
        if _BUILT_IN_SO_FAR.fullmatch(text, at):
            raise Unfinished
        raise NotACall(at)
    end = python_end(text, match.end(), "(")
    return Found(end, [(match[1], read_call(text, at, end)[1])])


def lark(tools: Sequence[Tool], spell: Spell) -> str:
    """One call without the tag."""
    return f"start: call\n{json_object_rules(tools, 'parameters')}"


SYNTAX = CallSyntax("llama3", (_TAG,), read, lark, begins, controls=(_TAG,), separator=";")
