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
    Scan,
    Source,
    expect,
    json_end,
    named_arguments,
    one_of,
    read_json,
    skip,
)
from madang.formats.dialects.syntax import CallSyntax, Found, Names, Spell, json_call_rules, json_object_rules

_OPENING, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME: Final = re.compile(r"[\w.-]*")
_WORD: Final = re.compile(r"\w*")
_NINE = "call{:05}"


def read(source: Source, at: int, names: Names) -> Scan[Found]:
    """A list of calls, or one call of the newer form."""
    at = yield from skip(source, at + len(_OPENING))
    return (yield from (_read_list if source.text[at] == "[" else _read_named)(source, at))


def _read_list(source: Source, at: int) -> Scan[Found]:
    end = yield from json_end(source, at, "[")
    calls = read_json(source.text, at, end)
    if not calls:
        raise NotACall(end)
    return Found(end, [named_arguments(call, "arguments", end) for call in calls])


def _read_named(source: Source, at: int) -> Scan[Found]:
    name_end = yield from skip(source, at, _NAME)
    if name_end == at:
        raise NotACall(at)
    name = source.text[at:name_end]
    at = yield from skip(source, name_end)
    if (yield from one_of(source, at, (_ID, _ARGUMENTS))) == _ID:
        at = yield from skip(source, at + len(_ID))
        at = yield from skip(source, at, _WORD)
        at = yield from skip(source, at)
    at = yield from expect(source, at, _ARGUMENTS)
    begin = yield from skip(source, at)
    end = yield from json_end(source, begin, "{")
    return Found(end, [(name, read_json(source.text, begin, end))])


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
