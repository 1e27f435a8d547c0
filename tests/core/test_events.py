"""The fold of a stream, and the promise that Done is one and last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from madang.core import (
    ContextLedger,
    Done,
    EngineInfo,
    Event,
    ReasoningDelta,
    Request,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    checked,
    collect,
    streaming,
)
from madang.core.errors import EngineError

TIMINGS = Timings(0.5, 0.0, 2.0, 4.0, 2.5, prompt_tokens_read=10, decode_tokens=8)
DONE = Done("stop", Usage(12, 2, 9), TIMINGS, ContextLedger(100, 12, 2, 12, 0, 9))


def test_a_stream_folds_into_one_answer() -> None:
    call = ToolCall("1", "weather", {"city": "서울"})
    first, second = TokenLogprob(1, "a", -0.1), TokenLogprob(2, "b", -0.2)
    events = [
        ReasoningDelta("so"),
        TextDelta("a", (first,)),
        ToolCallDelta(call),
        TextDelta("b", (second,)),
        DONE,
    ]
    completion = collect(events)
    assert (completion.text, completion.reasoning) == ("ab", "so")
    assert completion.tool_calls == (call,)
    assert completion.logprobs == (first, second)
    assert completion.done is DONE


@pytest.mark.parametrize("events", [[], [TextDelta("a")], [DONE, TextDelta("a")], [DONE, DONE]])
def test_a_stream_that_breaks_the_rule_is_an_engine_error(events: list[Event]) -> None:
    for consume in (collect, lambda stream: list(checked(stream))):
        with pytest.raises(EngineError, match="Done"):
            consume(events)


def test_rates_are_unknown_when_no_time_passed() -> None:
    assert TIMINGS.prompt_tokens_per_s == 5
    assert TIMINGS.decode_tokens_per_s == 2
    still = Timings(0, 0, 0, 0, 0, prompt_tokens_read=0, decode_tokens=0)
    assert still.prompt_tokens_per_s is None
    assert still.decode_tokens_per_s is None


def test_sums() -> None:
    assert DONE.usage.total_tokens == 21
    assert DONE.ledger.free_tokens == 79


class Recorder:
    """An engine that remembers whether its stream was closed."""

    def __init__(self) -> None:
        self.info = EngineInfo("recorder", "none", 100)
        self.closed = False

    def generate(self, request: Request) -> Iterator[Event]:
        try:
            yield TextDelta(request.prompt or "")
            yield DONE
        finally:
            self.closed = True

    def close(self) -> None:
        """Nothing to free."""


def test_leaving_a_stream_cancels_it_even_when_the_reason_is_an_error() -> None:
    engine = Recorder()
    with pytest.raises(KeyboardInterrupt), streaming(engine, Request(prompt="hello")) as events:
        assert next(events) == TextDelta("hello")
        raise KeyboardInterrupt
    assert engine.closed


class Listed(Recorder):
    """An engine whose stream is no generator and has nothing to close."""

    def generate(self, request: Request) -> Iterator[Event]:
        return iter([DONE])


def test_a_stream_that_cannot_be_closed_is_just_read() -> None:
    with streaming(Listed(), Request(prompt="hello")) as events:
        assert list(events) == [DONE]
