"""Mistral: ``[TOOL_CALLS][{"name": …, "arguments": {…}}, …]``, and since 2025 ``[TOOL_CALLS]name[ARGS]{…}``, repeated.

Between name and arguments there may be ``[CALL_ID]id``. The ids of calls must have nine letters or digits in history.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from madang.core.messages import Tool
from madang.formats.dialects.scanning import (
    NotACall,
    Unfinished,
    expect,
    json_end,
    named_arguments,
    partial_length,
    read_json,
    skip_space,
)
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_call_rules, json_object_rules

_OPENING, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME: Final = re.compile(r"[\w.-]+")
_NINE = "call{:05}"


def read(text: str, at: int, names: Names) -> Found:
    """A list of calls, or one call of the newer form."""
    at = skip_space(text, at + len(_OPENING))
    if at == len(text):
        raise Unfinished
    return _read_list(text, at) if text[at] == "[" else _read_named(text, at)


def _read_list(text: str, at: int) -> Found:
    end = json_end(text, at, "[")
    calls = read_json(text, at, end)
    if not calls:
        raise NotACall(end)
    return Found(end, [named_arguments(call, "arguments", end) for call in calls])


def _read_named(text: str, at: int) -> Found:
    match = _NAME.match(text, at)
    if match is None:
        raise NotACall(at)
    name, at = match[0], skip_space(text, match.end())
    if text.startswith(_ID, at):
        at += len(_ID)
        end = text.find(_ARGUMENTS, at)
        rest = text[at:] if end < 0 else text[at:end]
        held = partial_length(rest, (_ARGUMENTS,)) if end < 0 else 0
        if not re.fullmatch(r"\s*\w*\s*", rest[: len(rest) - held]):
            raise NotACall(at)
        if end < 0:
            raise Unfinished
        at = end
    elif at < len(text) and _ID.startswith(text[at:]):
        raise Unfinished
    begin = skip_space(text, expect(text, at, _ARGUMENTS))
    end = json_end(text, begin, "{")
    return Found(end, [(name, read_json(text, begin, end))])


def lark_list(tools: Sequence[Tool], spell: Spell) -> str:
    """One call in a list."""
    return f'start: {spell(_OPENING)} "[" call "]"\n{json_object_rules(tools, "arguments")}'


def lark_named(tools: Sequence[Tool], spell: Spell) -> str:
    """One call of the newer form; the marker between name and arguments may be a control token."""
    rules = json_call_rules(tools, lambda name: name, "")
    return f"start: {spell(_OPENING)} call\n" + rules.replace(" arguments_", f" {spell(_ARGUMENTS)} arguments_")


_CONTROLS = (_OPENING, _ARGUMENTS, _ID)
LIST = CallSyntax("mistral", (_OPENING,), read, lark_list, controls=_CONTROLS, call_id=_NINE)
NAMED = CallSyntax("mistral", (_OPENING,), read, lark_named, controls=_CONTROLS, call_id=_NINE)
