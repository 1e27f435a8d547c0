"""What both APIs have in common: pieces of an answer on their way in, and the facts for Done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from madang.core.errors import EngineError, InvalidRequest
from madang.core.events import (
    ContextLedger,
    Done,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from madang.core.messages import ToolCall
from madang.core.request import Request
from madang.core.stopping import StopMatcher
from madang.core.stopwatch import Stopwatch

UNKNOWN_TOKEN: Final = -1  # most servers give the text of a token, not its number


@dataclass(slots=True)
class Piece:
    """What one message of a stream says. ``calls`` are complete; counts are None where it says nothing of them.

    finish      the word that the server ended with
    stop_text   the stop string that it says it met
    """

    text: str = ""
    reasoning: str = ""
    calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()
    finish: str | None = None
    stop_text: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(slots=True)
class RemoteAnswer:
    """Turns pieces into events. Stop strings are looked for here as well, so that none is ever shown."""

    request: Request
    seed: int
    n_ctx: int
    watch: Stopwatch
    _matcher: StopMatcher = field(init=False)
    _latest: Piece = field(default_factory=Piece)  # of each fact the last that was said
    _stop_text: str | None = None
    _n_pieces: int = 0
    _n_calls: int = 0
    _unshown: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._matcher = StopMatcher(self.request.stop)

    def events(self, pieces: Iterator[Piece]) -> Iterator[Event]:
        """Deltas, then Done. Raises EngineError when the server ends without saying why."""
        for piece in pieces:
            self._note(piece)
            if piece.text or piece.reasoning or piece.calls:
                self._n_pieces += 1
                self.watch.token()
            self._unshown += piece.logprobs
            yield from self._deltas(piece)
            if self._stop_text is not None:
                break  # leaving closes the connection
        yield from self._rest()
        yield self._done()

    def _deltas(self, piece: Piece) -> Iterator[Event]:
        if piece.reasoning:
            yield ReasoningDelta(piece.reasoning, self._taken())
        if piece.text:
            text, self._stop_text = self._matcher.push(piece.text)
            if text:
                yield TextDelta(text, self._taken())
        for call in piece.calls:
            self._n_calls += 1
            yield ToolCallDelta(call, self._taken())

    def _rest(self) -> Iterator[Event]:
        text = "" if self._stop_text is not None else self._matcher.flush()
        if text or self._unshown:
            yield TextDelta(text, self._taken())

    def _taken(self) -> tuple[TokenLogprob, ...]:
        taken = tuple(self._unshown)
        self._unshown.clear()
        return taken

    def _note(self, piece: Piece) -> None:
        if self.watch.prompt_read_at is None:
            self.watch.prompt_read(0)
        for name in ("finish", "stop_text", "prompt_tokens", "cached_tokens", "completion_tokens"):
            if getattr(piece, name) is not None:
                setattr(self._latest, name, getattr(piece, name))

    def _done(self) -> Done:
        latest = self._latest
        if latest.finish is None and self._stop_text is None:
            raise EngineError("The server ended its answer in the middle.")
        n_prompt, n_cached = latest.prompt_tokens or 0, latest.cached_tokens or 0
        n_cached = min(n_cached, n_prompt)
        n_answer = self._n_pieces if latest.completion_tokens is None else latest.completion_tokens
        self.watch.prompt_tokens_read = n_prompt - n_cached
        # One that is longer than what is known of the server's context shows how long that is at least.
        n_ctx = max(self.n_ctx, n_prompt + n_answer)
        return Done(
            finish_reason=self._finish_reason(),
            usage=Usage(n_prompt, n_cached, n_answer),
            timings=self.watch.timings(n_answer),
            ledger=ContextLedger(n_ctx, n_prompt, n_cached, n_prompt, 0, n_answer),
            seed=self.seed,
            stop_text=latest.stop_text if self._stop_text is None else self._stop_text,
        )

    def _finish_reason(self) -> FinishReason:
        if self._stop_text is not None:
            return "stop"
        if self._latest.finish == "length":
            return "length"
        if self._latest.finish == "content_filter":
            raise EngineError("A filter of the server ended the answer.")
        return "tool_calls" if self._n_calls else "stop"


def refuse(param: str, server: str, hint: str | None = None) -> InvalidRequest:
    """For a field of a request that an API has no word for."""
    return InvalidRequest(f"{server} takes no '{param}'.", param=param, hint=hint or "Leave it out.")


def count_of(value: object) -> int | None:
    """A number of tokens, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text_of(value: object) -> str:
    """A text, where null and other things are none."""
    return value if isinstance(value, str) else ""


def objects_of(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list, where there is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def object_of(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def arguments_of(value: object) -> Mapping[str, Any]:
    """The arguments of a call, an object or the text of one. Raises EngineError for what is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise EngineError("The server called a tool with arguments that are not a JSON object.")
    return value


def logprobs_of(entries: object) -> list[TokenLogprob]:
    """Of a list of objects with token, logprob and top_logprobs, as both APIs have it."""
    return [
        TokenLogprob(
            _id_of(entry),
            text_of(entry.get("token")),
            _logprob_of(entry),
            tuple((_id_of(other), _logprob_of(other)) for other in objects_of(entry.get("top_logprobs"))),
            tuple(text_of(other.get("token")) for other in objects_of(entry.get("top_logprobs"))),
        )
        for entry in objects_of(entries)
    ]


def _id_of(entry: Mapping[str, Any]) -> int:
    number = count_of(entry.get("id"))
    return UNKNOWN_TOKEN if number is None else number


def _logprob_of(entry: Mapping[str, Any]) -> float:
    value = entry.get("logprob")
    return float(value) if isinstance(value, int | float) else float("-inf")
