"""What a dialect consists of: markers, a function that reads calls, and a grammar that makes a model write one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from madang.core.messages import Tool
from madang.formats.dialects.scanning import Scan, Source

Names: TypeAlias = frozenset[str]
Spell: TypeAlias = Callable[[str], str]

MAX_BEGINNING: Final = 200


class Found(NamedTuple):
    """Calls that were read, as name and arguments, and where the text behind them begins."""

    end: int
    calls: Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How one kind of model writes tool calls.

    markers     each opens a call wherever it stands in an answer
    read        (text, position of a marker, names of the tools): a scan, as in scanning.py, that returns calls
    lark        the grammar of one call of one of the tools; ``spell`` writes a marker as a terminal
    begins      for calls without a marker: whether an answer that begins like this may be one; None is not known yet;
                it is shown the first MAX_BEGINNING characters
    controls    texts that can be control tokens, and are then to be shown to the reader as text
    separator   what may stand between two calls, beside blanks
    call_id     the id of the n-th call of an answer, as a format string
    """

    name: str
    markers: tuple[str, ...]
    read: Callable[[Source, int, Names], Scan[Found]]
    lark: Callable[[Sequence[Tool], Spell], str]
    begins: Callable[[str], bool | None] | None = None
    controls: tuple[str, ...] = ()
    separator: str = ""
    call_id: str = "call_{}"


@dataclass(frozen=True, slots=True)
class Thinking:
    """The tags around a model's reasoning, which comes before its answer."""

    opening: str
    closing: str


# ---- pieces of grammars in llguidance's dialect of Lark


def quoted(text: str) -> str:
    """``text`` as a terminal."""
    return json.dumps(text, ensure_ascii=False)


def json_rule(name: str, schema: Mapping[str, Any]) -> str:
    """A rule for JSON that ``schema`` accepts, with at most one blank wherever JSON allows any."""
    return f"{name}: %json {json.dumps({**schema, 'x-guidance': {'whitespace_pattern': ' '}})}"


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a call's arguments, which are always an object."""
    return {"type": "object", **tool.parameters}


def json_call_rules(tools: Sequence[Tool], before: Callable[[str], str], after: str) -> str:
    """The rule ``call``: the arguments of one tool as JSON, between ``before(name)`` and ``after``."""
    rules = ["call: " + " | ".join(f"call_{n}" for n in range(len(tools)))]
    for n, tool in enumerate(tools):
        end = f" {quoted(after)}" if after else ""
        rules.append(f"call_{n}: {quoted(before(tool.name))} arguments_{n}{end}")
        rules.append(json_rule(f"arguments_{n}", arguments_schema(tool)))
    return "\n".join(rules)


def json_object_rules(tools: Sequence[Tool], key: str) -> str:
    """The rule ``call`` for an object with the members ``name`` and ``key``."""
    return json_call_rules(tools, lambda name: f'{{"name": {json.dumps(name)}, "{key}": ', "}")
