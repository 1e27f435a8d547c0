"""What an answer looks like that is not only text: reasoning, tool calls, and both as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from madang.cli.answering import answer_once, show_stream
from madang.core import (
    ContextLedger,
    Done,
    EngineInfo,
    Event,
    ReasoningDelta,
    Request,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
)

REQUEST = Request(prompt="hi")
CALL = ToolCallDelta(ToolCall("call_0", "weather", {"city": "서울"}))
LINE = '{"name": "weather", "arguments": {"city": "서울"}}\n'
DONE = Done("stop", Usage(1, 0, 2), Timings(0, 0, 0, 0, 0, 1, 1), ContextLedger(8, 1, 0, 1, 0, 2))


class Script:
    """An engine that says these events; an exception among them is raised."""

    info = EngineInfo("script", "scripted", 8)

    def __init__(self, *events: Event | type[BaseException]) -> None:
        self._events = events

    def generate(self, request: Request) -> Iterator[Event]:
        for event in self._events:
            if isinstance(event, type):
                raise event
            yield event

    def close(self) -> None:
        """Nothing to free."""


def test_reasoning_is_a_note_and_the_answer_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    events = (ReasoningDelta("Let me "), ReasoningDelta("see."), TextDelta("Four"), TextDelta(".\n"), DONE)
    shown: list[str] = []
    assert show_stream(Script(*events), REQUEST, shown) is DONE
    assert capsys.readouterr() == ("Four.\n", "Let me see.\n")
    assert "".join(shown) == "Four.\n"


def test_what_was_thought_when_it_is_stopped_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        show_stream(Script(ReasoningDelta("Let me"), KeyboardInterrupt), REQUEST, [])
    assert capsys.readouterr() == ("", "Let me\n")


@pytest.mark.parametrize(
    ("events", "out"),
    [((CALL, DONE), LINE), ((TextDelta("Now:"), CALL, CALL, TextDelta("end"), DONE), f"Now:\n{LINE}{LINE}end\n")],
)
def test_a_tool_call_is_a_line_of_json(capsys: pytest.CaptureFixture[str], events: tuple[Event, ...], out: str) -> None:
    shown: list[str] = []
    show_stream(Script(*events), REQUEST, shown)
    assert capsys.readouterr().out == out
    assert "".join(shown).rstrip("\n") == out.rstrip("\n")


def test_all_of_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(ReasoningDelta("hm"), TextDelta("Now"), CALL, DONE)
    answer_once(script, REQUEST, as_json=True, stats=False)
    document = json.loads(capsys.readouterr().out)
    assert (document["text"], document["reasoning"]) == ("Now", "hm")
    assert document["tool_calls"] == [{"id": "call_0", "name": "weather", "arguments": {"city": "서울"}}]
