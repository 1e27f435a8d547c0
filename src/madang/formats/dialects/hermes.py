"""Hermes, Qwen 2.5 and 3, SmolLM3, EXAONE 4: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, repeated."""

from __future__ import annotations

from collections.abc import Sequence

from madang.core.messages import Tool
from madang.formats.dialects.scanning import Scan, Source, expect, json_end, named_arguments, read_json, skip
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_object_rules

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"


def read(source: Source, at: int, names: Names) -> Scan[Found]:
    """One call; its name need not be known."""
    begin = yield from skip(source, at + len(_OPENING))
    body_end = yield from json_end(source, begin, "{")
    closing = yield from skip(source, body_end)
    end = yield from expect(source, closing, _CLOSING)
    return Found(end, [named_arguments(read_json(source.text, begin, body_end), "arguments", end)])


def lark(tools: Sequence[Tool], spell: Spell) -> str:
    """One call, on lines of its own as the models are trained to write it."""
    start = f'start: {spell(_OPENING)} "\\n" call "\\n" {spell(_CLOSING)}'
    return f"{start}\n{json_object_rules(tools, 'arguments')}"


SYNTAX = CallSyntax("hermes", (_OPENING,), read, lark, controls=(_OPENING, _CLOSING))
