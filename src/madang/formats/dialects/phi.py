"""Phi-4-mini: ``<|tool_call|>[{"name": …, "arguments": {…}}, …]<|/tool_call|>``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from madang.core.messages import Tool
from madang.formats.dialects.scanning import (
    NotACall,
    Scan,
    Source,
    expect,
    json_end,
    named_arguments,
    read_json,
    skip,
)
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_object_rules

_OPENING, _CLOSING = "<|tool_call|>", "<|/tool_call|>"


def read(source: Source, at: int, names: Names) -> Scan[Found]:
    """All calls of one list."""
    begin = yield from skip(source, at + len(_OPENING))
    body_end = yield from json_end(source, begin, "[")
    closing = yield from skip(source, body_end)
    end = yield from expect(source, closing, _CLOSING)
    calls = read_json(source.text, begin, body_end)
    if not calls:
        raise NotACall(end)
    return Found(end, [_read_one(call, end) for call in calls])


def _read_one(call: object, end: int) -> tuple[str, Mapping[str, Any]]:
    key = "parameters" if isinstance(call, dict) and "parameters" in call else "arguments"
    return named_arguments(call, key, end)


def lark(tools: Sequence[Tool], spell: Spell) -> str:
    """A list of one call."""
    start = f'start: {spell(_OPENING)} "[" call "]" {spell(_CLOSING)}'
    return f"{start}\n{json_object_rules(tools, 'arguments')}"


SYNTAX = CallSyntax("phi", (_OPENING,), read, lark, controls=(_OPENING, _CLOSING))
