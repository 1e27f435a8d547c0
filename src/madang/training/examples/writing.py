"""Examples as JSON lines: chat or text, with where each came from. Read again, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.core.writing import replacing, within_disk
from madang.training.examples.example import Example


def row_of(example: Example) -> dict[str, Any]:
    """The row of an example, as forms.py reads it."""
    row: dict[str, Any] = {"text": example.text} if example.text is not None else _chat(example)
    if example.source:
        row |= {"source": example.source, "line": example.line}
    if example.provenance:
        row["provenance"] = dict(example.provenance)
    return row


@contextmanager
def writing_examples(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that writes one row to a new file of JSON lines, which is there when the block ends, or never.

    Raises InvalidRequest when the file is there already, NotEnoughDisk.
    """
    check_new(path)
    with within_disk(path.parent), replacing(path) as temporary, temporary.open("x", encoding="utf-8") as file:

        def write(row: Mapping[str, Any]) -> None:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield write
        file.flush()


def check_new(path: Path) -> None:
    """Raises InvalidRequest when something is there already: no data is changed in place."""
    if path.exists():
        raise InvalidRequest(
            f"{path} exists already; nothing was written.", param="output", hint="Name a new file, or remove it first."
        )


def _chat(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": [_turn(message) for message in example.messages]}
    if example.tools:
        row["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in example.tools
        ]
    return row


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    named = {"tool_call_id": message.tool_call_id, "name": message.name}
    return turn | {key: value for key, value in named.items() if value is not None}
