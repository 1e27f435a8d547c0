"""From events to the lines of an answer: pure translation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from madang.core.events import Done, Event, ReasoningDelta, TextDelta, TokenLogprob, ToolCallDelta
from madang.server.ollama.durations import nanoseconds

_DONE_REASONS: Final = {"stop": "stop", "length": "length", "tool_calls": "stop"}

_NEVER: Final = -9999.0  # in place of minus infinity, which JSON does not know

Line = dict[str, Any]


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339, in UTC; now, when no moment is given."""
    moment = (moment or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Shape(Protocol):
    """How one endpoint says things."""

    def piece(self, text: str = "", thinking: str = "", calls: Sequence[Line] = ()) -> Line:
        """The part of a line that holds what the model said."""


class ChatShape:
    """``message`` objects."""

    def piece(self, text: str = "", thinking: str = "", calls: Sequence[Line] = ()) -> Line:
        """See Shape."""
        message: Line = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = list(calls)
        return {"message": message}


class GenerateShape:
    """``response`` texts."""

    def piece(self, text: str = "", thinking: str = "", calls: Sequence[Line] = ()) -> Line:
        """See Shape. A prompt brings no tools, so there are no calls."""
        return {"response": text} | ({"thinking": thinking} if thinking else {})


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds that are not the engine's to measure: the whole request so far, and of it the wait for the model."""

    total_s: float
    load_s: float


class Lines:
    """The lines of one answer, in order."""

    def __init__(self, model: str, shape: Shape) -> None:
        self._model, self._shape = model, shape
        self._n_calls = 0

    def delta(self, event: Event) -> Line:
        """One line for an event that is not the last."""
        match event:
            case TextDelta():
                piece, logprobs = self._shape.piece(event.text), event.logprobs
            case ReasoningDelta():
                piece, logprobs = self._shape.piece(thinking=event.text), event.logprobs
            case ToolCallDelta():
                call = event.call
                function = {"index": self._n_calls, "name": call.name, "arguments": dict(call.arguments)}
                self._n_calls += 1
                piece, logprobs = self._shape.piece(calls=[{"id": call.id, "function": function}]), event.logprobs
            case Done():
                raise ValueError("Done is the last line, not a delta.")
        line = {**self._head(), **piece, "done": False}
        return line | ({"logprobs": [_logprob(token) for token in logprobs]} if logprobs else {})

    def last(self, done: Done, clock: Clock, extras: Mapping[str, Any]) -> Line:
        """The line that ends the answer, with all measurements; ``extras`` are put after them."""
        return {
            **self._head(),
            **self._shape.piece(),
            "done": True,
            "done_reason": _DONE_REASONS[done.finish_reason],
            "total_duration": nanoseconds(clock.total_s),
            "load_duration": nanoseconds(clock.load_s),
            "prompt_eval_count": done.usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(done.timings.prompt_s),
            "eval_count": done.usage.completion_tokens,
            "eval_duration": nanoseconds(done.timings.decode_s),
            **extras,
        }

    def bare(self, reason: str) -> Line:
        """The only line when nothing was to be said: the model was loaded or unloaded."""
        return {**self._head(), **self._shape.piece(), "done": True, "done_reason": reason}

    def _head(self) -> Line:
        return {"model": self._model, "created_at": timestamp()}


def joined(lines: Iterable[Line], shape: Shape) -> Line:
    """All lines of an answer as one: the last, with everything that was said before."""
    text, thinking = "", ""
    calls: list[Line] = []
    logprobs: list[Line] = []
    last: Line = {}
    for last in lines:
        piece = last.get("message", last)
        text += piece.get("content", piece.get("response", ""))
        thinking += piece.get("thinking", "")
        calls += piece.get("tool_calls", [])
        logprobs += last.get("logprobs", [])
    whole = {**last, **shape.piece(text, thinking, calls)}
    return whole | ({"logprobs": logprobs} if logprobs else {})


def _logprob(token: TokenLogprob) -> Line:
    alternatives = zip(token.top_texts, token.top, strict=False)
    top = [_likelihood(text, logprob) for text, (_, logprob) in alternatives]
    return _likelihood(token.text, token.logprob) | ({"top_logprobs": top} if top else {})


def _likelihood(text: str, logprob: float) -> Line:
    return {"token": text, "logprob": max(logprob, _NEVER), "bytes": list(text.encode("utf-8", "replace"))}
