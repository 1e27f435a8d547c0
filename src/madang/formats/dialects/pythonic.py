"""Calls as Python: ``[f(a=1, b="x"), g()]`` as a whole answer (Llama 3.2 and 4), fenced as tool_code (Gemma).

A list in brackets has no marker, so only an answer that begins with the call of a known tool is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.core.messages import Tool
from madang.formats.dialects.literals import read_calls
from madang.formats.dialects.scanning import NotACall, Scan, Source, find, python_end
from madang.formats.dialects.syntax import (
    CallSyntax,
    Found,
    Names,
    Spell,
    arguments_schema,
    json_rule,
    quoted,
)

_FENCE, _FENCE_END = "```tool_code", "```"
_CALL_BEGINS: Final = re.compile(r"\[\s*[^\W\d][\w.]*\s*\(")
_CALL_SO_FAR: Final = re.compile(r"\[\s*([^\W\d][\w.]*)?\s*")


def begins(text: str) -> bool | None:
    """Whether the answer looks like a list of calls."""
    if _CALL_BEGINS.match(text):
        return True
    return None if _CALL_SO_FAR.fullmatch(text) else False


def read_list(source: Source, at: int, names: Names) -> Scan[Found]:
    """The calls of a list, all of known tools."""
    end = yield from python_end(source, at, "[")
    calls = read_calls(source.text, at, end)
    if any(name not in names for name, _ in calls):
        raise NotACall(end)
    return Found(end, calls)


def read_fenced(source: Source, at: int, names: Names) -> Scan[Found]:
    """The calls in a fence, one on a line or a list of them; ``print`` around one is taken off.

    The first closing fence there is ends it, also within a text of the call.
    """
    at += len(_FENCE)
    body_end = yield from find(source, at, _FENCE_END)
    end = body_end + len(_FENCE_END)
    try:
        return Found(end, read_calls(source.text, at, body_end))
    except NotACall:
        pass
    lines = [line for line in source.text[at:body_end].splitlines() if line.strip()]
    try:
        return Found(end, [call for line in lines for call in read_calls(line, 0, len(line))])
    except NotACall:
        raise NotACall(end) from None


def lark_list(tools: Sequence[Tool], spell: Spell) -> str:
    """A list of one call."""
    return f'start: "[" call "]"\n{_call_rules(tools)}'


def lark_fenced(tools: Sequence[Tool], spell: Spell) -> str:
    """One call in a fence."""
    return f'start: {quoted(_FENCE)} "\\n" call "\\n" {quoted(_FENCE_END)}\n{_call_rules(tools)}'


def _call_rules(tools: Sequence[Tool]) -> str:
    """Keyword arguments whose values are JSON, which the reader takes for literals; required ones come first."""
    rules = ["call: " + " | ".join(f"call_{n}" for n in range(len(tools)))]
    for n, tool in enumerate(tools):
        rules += _rules_of(n, tool)
    return "\n".join(rules)


def _rules_of(n: int, tool: Tool) -> list[str]:
    schema = arguments_schema(tool)
    properties = schema.get("properties", {})
    required = [name for name in properties if name in schema.get("required", ())]
    optional = [name for name in properties if name not in required]
    shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules: list[str] = []
    for index, name in enumerate([*required, *optional]):
        if not name.isidentifier():
            raise InvalidRequest(
                f"'{name}' of the tool '{tool.name}' cannot be an argument in the calls that this model writes.",
                param="tools",
            )
        own = properties[name] if isinstance(properties[name], dict) else {}
        rules.append(json_rule(f"value_{n}_{index}", {**shared, **own}))
        rules.append(f"argument_{n}_{index}: {quoted(name + '=')} value_{n}_{index}")
    arguments = [f"argument_{n}_{index}" for index in range(len(properties))]
    return [f'call_{n}: {quoted(tool.name + "(")} {_sequence(arguments, len(required))} ")"', *rules]


def _sequence(arguments: Sequence[str], n_required: int) -> str:
    """The required ones, then any of the others in order, divided by commas."""
    if n_required:
        rest = "".join(f' (", " {argument})?' for argument in arguments[n_required:])
        return ' ", " '.join(arguments[:n_required]) + rest
    alternatives = [_sequence(arguments[n:], 1) for n in range(len(arguments))]
    return f"({' | '.join(alternatives)})?" if alternatives else ""


LIST = CallSyntax("pythonic", (), read_list, lark_list, begins)
FENCED = CallSyntax("tool_code", (_FENCE,), read_fenced, lark_fenced)
