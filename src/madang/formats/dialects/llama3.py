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
    Scan,
    Source,
    expect,
    json_end,
    named_arguments,
    python_end,
    read_json,
    skip,
)
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_object_rules

_TAG = "<|python_tag|>"
_BEGINNINGS = ('{"name":"', '{"type":"function","name":"', '{"function":"')
_WORD: Final = re.compile(r"\w*")


def begins(text: str) -> bool | None:
    """Whether the answer looks like a call: an object whose first member is the name."""
    compact = re.sub(r"\s+", "", text)
    for beginning in _BEGINNINGS:
        if compact.startswith(beginning):
            return True
        if beginning.startswith(compact):
            return None
    return False


def read(source: Source, at: int, names: Names) -> Scan[Found]:
    """One call: of a known tool, or of any behind the tag."""
    tagged = source.text.startswith(_TAG, at)
    if tagged:
        at = yield from skip(source, at + len(_TAG))
        if source.text[at] != "{":
            return (yield from _read_built_in(source, at))
    end = yield from json_end(source, at, "{")
    value = read_json(source.text, at, end)
    if isinstance(value, dict) and isinstance(value.get("function"), str):
        value = {**value, "name": value["function"]}
    key = "arguments" if isinstance(value, dict) and "arguments" in value else "parameters"
    name, arguments = named_arguments(value, key, end)
    if name not in names and not tagged:
        raise NotACall(end)
    return Found(end, [(name, arguments)])


def _read_built_in(source: Source, at: int) -> Scan[Found]:
    name_end = yield from skip(source, at, _WORD)
    if name_end == at:
        raise NotACall(at)
    arguments = yield from expect(source, name_end, ".call")
    end = yield from python_end(source, arguments, "(")
    return Found(end, [(source.text[at:name_end], read_call(source.text, at, end)[1])])


def lark(tools: Sequence[Tool], spell: Spell) -> str:
    """One call without the tag."""
    return f"start: call\n{json_object_rules(tools, 'parameters')}"


SYNTAX = CallSyntax("llama3", (_TAG,), read, lark, begins, controls=(_TAG,), separator=";")
