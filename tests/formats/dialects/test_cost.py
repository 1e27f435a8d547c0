"""A hostile answer costs time in proportion to its length, letter by letter and whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import pytest

from madang.formats.dialects import AnswerReader, CallSyntax, Thinking, hermes, llama3, mistral, phi, pythonic

HOSTILE: dict[str, tuple[CallSyntax, str, str]] = {  # what an answer begins with, and what it repeats
    "nested objects": (hermes.SYNTAX, "<tool_call>", '{"a":'),
    "a string without end": (hermes.SYNTAX, '<tool_call>{"a": "', "\\n}"),
    "openings": (hermes.SYNTAX, "", "<tool_call>"),
    "openings in blanks": (hermes.SYNTAX, "", " <tool_call>  "),
    "broken calls": (hermes.SYNTAX, "", "<tool_call>{]</tool_call>"),
    "calls": (hermes.SYNTAX, "", '<tool_call>{"name": "a"}</tool_call>\n'),
    "blanks": (hermes.SYNTAX, "", " \n"),
    "blanks before a body": (hermes.SYNTAX, "<tool_call>", " "),
    "blanks where a call may begin": (llama3.SYNTAX, "", " "),
    "blanks in what may begin a call": (llama3.SYNTAX, "{", " "),
    "one call after the other": (llama3.SYNTAX, "", '{"name": "f", "parameters": {}};'),
    "a long name": (llama3.SYNTAX, "<|python_tag|>", "a"),
    "a long id": (mistral.NAMED, "[TOOL_CALLS]f[CALL_ID]", "a"),
    "a long list": (phi.SYNTAX, "<|tool_call|>[", "[],"),
    "a long word in a bracket": (pythonic.LIST, "[", "a"),
    "quotes in a long text": (pythonic.LIST, '[f(a="""', '" \\" '),
    "a fence without end": (pythonic.FENCED, "```tool_code\n", "`` f()\n"),
    "marks of reasoning": (hermes.SYNTAX, "<think>", "</think \n"),
}


def n_steps(syntax: CallSyntax, pieces: Iterable[str]) -> int:
    """Calls of functions, of Python and of C, and lines, that reading takes: what can be counted of time."""
    reader = AnswerReader(Thinking("<think>", "</think>"), syntax, frozenset({"f"}))
    steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    sys.setprofile(count)
    sys.settrace(count)
    try:
        for piece in pieces:
            reader.push(piece)
        reader.flush()
    finally:
        sys.settrace(None)
        sys.setprofile(None)
    return steps


@pytest.mark.parametrize(("syntax", "begin", "repeated"), HOSTILE.values(), ids=HOSTILE)
def test_steps_grow_with_the_length(syntax: CallSyntax, begin: str, repeated: str) -> None:
    short, long = (begin + repeated * (n // len(repeated)) for n in (1200, 4800))
    for cut in (list, lambda text: [text]):
        assert n_steps(syntax, cut(long)) < 5 * n_steps(syntax, cut(short)) + 500


@pytest.mark.parametrize(("syntax", "begin", "repeated"), HOSTILE.values(), ids=HOSTILE)
def test_little_is_held_unless_a_call_may_be_there(syntax: CallSyntax, begin: str, repeated: str) -> None:
    text = begin + repeated * 2000
    reader = AnswerReader(Thinking("<think>", "</think>"), syntax, frozenset({"f"}))
    deltas = [delta for piece in text for delta in reader.push(piece)]
    rest = reader.flush()
    shown = "".join(getattr(delta, "text", "") for delta in deltas)
    held = "".join(getattr(delta, "text", "") for delta in rest)
    if not reader.n_calls and "<think>" not in begin:
        assert shown + held == text
    if begin in ("", "<think>"):
        assert len(held) < 400
