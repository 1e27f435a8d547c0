"""What a generation says while it runs, and the fold that turns it into one answer.

A stream is any number of deltas followed by exactly one :class:`Done`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from madang.core.errors import EngineError
from madang.core.messages import ToolCall
from madang.core.units import per_second

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token: its text, natural-log probability, and the most likely alternatives (id, logprob).

    ``top_texts`` are the texts of the alternatives, in their order.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    top_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer; always whole characters."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's own reasoning, kept apart from the answer."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """One complete tool call."""

    call: ToolCall
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts.

    cached_tokens      the part of the prompt that did not have to be read again
    reasoning_tokens   the part of the completion in which the model reasoned
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds. ``prompt_s`` covers the uncached prompt tokens, ``decode_s`` all after the first token.

    queue_s           until the request began to be computed; not a part of prompt_s
    drafted_tokens    tokens of the answer that were guessed and checked, and how many of them came true
    """

    load_s: float
    queue_s: float
    prompt_s: float
    decode_s: float
    time_to_first_token_s: float
    prompt_tokens_read: int
    decode_tokens: int
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Rate of reading the uncached prompt; None when nothing was read."""
        return per_second(self.prompt_tokens_read, self.prompt_s)

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Rate of generation after the first token; None when at most one token was generated."""
        return per_second(self.decode_tokens, self.decode_s)


@dataclass(frozen=True, slots=True)
class ContextLedger:
    """Where every token of the context went; ``kept == received - dropped``, and ``cached`` is a part of ``kept``.

    dropped_messages      of the conversation that was received, those that the model was not shown
    summarised_messages   those that it was shown a summary of, whose tokens are a part of ``kept``
    source_tokens         the part of ``kept`` that passages of documents take
    dropped_sources       passages that were found, but did not fit
    """

    n_ctx: int
    received_tokens: int
    cached_tokens: int
    kept_tokens: int
    dropped_tokens: int
    generated_tokens: int
    dropped_messages: int = 0
    summarised_messages: int = 0
    source_tokens: int = 0
    dropped_sources: int = 0

    @property
    def free_tokens(self) -> int:
        """What is left of the context after this answer."""
        return self.n_ctx - self.kept_tokens - self.generated_tokens


@dataclass(frozen=True, slots=True)
class Done:
    """The last event. ``stop_text`` is the stop string that ended the answer, if one did; ``seed`` the one in use."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    ledger: ContextLedger
    seed: int | None = None
    stop_text: str | None = None


Event: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Done


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the fold of its stream. ``logprobs`` has every token of it, reasoning and calls included."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    done: Done


def collect(events: Iterable[Event]) -> Completion:
    """Fold a stream into one answer. Raises :class:`EngineError` when it breaks the one-Done-at-the-end rule."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    done: Done | None = None
    for event in checked(events):
        match event:
            case TextDelta():
                text.append(event.text)
                logprobs.extend(event.logprobs)
            case ReasoningDelta():
                reasoning.append(event.text)
                logprobs.extend(event.logprobs)
            case ToolCallDelta():
                calls.append(event.call)
                logprobs.extend(event.logprobs)
            case Done():
                done = event
    assert done is not None  # checked() has seen to it
    return Completion("".join(text), "".join(reasoning), tuple(calls), tuple(logprobs), done)


def checked(events: Iterable[Event]) -> Iterator[Event]:
    """The same stream; raises :class:`EngineError` when an event follows Done or Done never comes."""
    done = False
    for event in events:
        if done:
            raise EngineError(f"The engine sent {type(event).__name__} after Done.")
        done = isinstance(event, Done)
        yield event
    if not done:
        raise EngineError("The engine ended its stream without Done.")
