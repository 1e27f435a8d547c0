"""The seam between those who run models and those who use them.

Synchronous on purpose: closing the iterator that ``generate`` returned cancels the generation. Extra abilities are
protocols of their own, found with ``isinstance``; no method exists only to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from madang.core.errors import ContextLengthExceeded, InvalidRequest
from madang.core.events import Event, checked
from madang.core.request import Request

_ROOM_SHARE = 4  # of the context: what is left for an answer whose length nobody limits


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a loaded engine says of itself.

    context_tokens     the most tokens one request may hold, prompt and answer together
    max_concurrency    how many generations may run at once; the caller queues the rest
    load_s             seconds from the call of ``load`` until ready
    """

    engine: str
    model: str
    context_tokens: int
    max_concurrency: int = 1
    load_s: float = 0.0

    def context_of(self, request: Request) -> int:
        """Tokens that the request may hold. Raises InvalidRequest when it wants more than the model was opened with."""
        n_ctx, most = request.context_tokens, self.context_tokens
        if n_ctx is not None and n_ctx > most:
            raise InvalidRequest(
                f"A context of {n_ctx} tokens was asked for, but {self.model} was opened with {most}.",
                param="context_tokens",
                hint=f"Ask for at most {most}, or open it with a longer --context.",
            )
        return most if n_ctx is None else n_ctx

    def prompt_room_of(self, request: Request) -> int:
        """Tokens that a prompt may have, so that an answer has room behind it."""
        n_ctx = self.context_tokens if request.context_tokens is None else request.context_tokens
        most = max(n_ctx // _ROOM_SHARE, 1)
        return n_ctx - max(min(most if request.max_tokens is None else request.max_tokens, n_ctx // 2), 1)

    def check_texts(self, texts: Iterable[Sequence[int]]) -> None:
        """Raises ContextLengthExceeded for the tokens of a text that are too many."""
        for tokens in texts:
            if len(tokens) > self.context_tokens:
                raise ContextLengthExceeded(len(tokens), self.context_tokens)


class Loaded(Protocol):
    """A model in memory, whatever it can do."""

    @property
    def info(self) -> EngineInfo:
        """What is loaded and what it can do."""

    def close(self) -> None:
        """Free everything; a second call does nothing."""


@runtime_checkable
class Engine(Loaded, Protocol):
    """A loaded model that answers."""

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer: deltas, then one Done. Invalid requests raise before the first event."""


@runtime_checkable
class Supervised(Loaded, Protocol):
    """A loaded model that can be lost: it runs in a process of its own."""

    @property
    def is_alive(self) -> bool:
        """False once it cannot answer any more; whoever keeps it closes it and opens the model again."""


@contextmanager
def streaming(engine: Engine, request: Request) -> Iterator[Iterator[Event]]:
    """The checked stream of a request; leaving the block, however that happens, cancels what is left of it."""
    with reading(engine.generate(request)) as events:
        yield events


@contextmanager
def reading(events: Iterator[Event]) -> Iterator[Iterator[Event]]:
    """The same for a stream that an engine gave already."""
    try:
        yield checked(events)
    finally:
        close = getattr(events, "close", None)  # a plain iterator has nothing to cancel
        if close is not None:
            close()


@runtime_checkable
class Cancellable(Protocol):
    """A stream of events that another thread than the one that waits for the next one can end."""

    def cancel(self) -> None:
        """Stop computing at the next step and wake who waits; nothing comes any more. A second call does nothing."""


@runtime_checkable
class Pushing(Cancellable, Protocol):
    """A stream that can hand its events over as they come, so that no thread has to wait for them."""

    def push(self, receive: Callable[[Sequence[Event]], None], end: Callable[[Exception | None], None]) -> None:
        """Begin, and return. Raises what is wrong with the request.

        ``receive`` is called with events as they come, then ``end`` once, with what ended the stream if that was
        neither its Done nor ``cancel``. Both are called from other threads; they return at once and never raise. What
        is received after the end does not count.
        """


@runtime_checkable
class TokenCounter(Protocol):
    """An engine that can tell how long a request is without running it."""

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request, template included."""


@runtime_checkable
class Speller(Protocol):
    """An engine that shows what its model reads."""

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, control tokens included. Raises InvalidRequest for an id that there is not."""

    def render(self, request: Request) -> str:
        """The prompt of a conversation as the chat template writes it. Raises InvalidRequest and TemplateError."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, all of the same length, and the tokens that were read for them."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int


@runtime_checkable
class Embedder(Loaded, Protocol):
    """A loaded model that turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors in the order of the texts. Raises ContextLengthExceeded for a text that is too long."""


@runtime_checkable
class TextTokenCounter(Protocol):
    """An embedder that can tell how long texts are without reading them."""

    def count_text_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text, with those that the model puts around it."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely a continuation is: log-probability (natural), tokens, and whether each was the likeliest one."""

    logprob: float
    n_tokens: int
    is_greedy: bool


@runtime_checkable
class Scorer(Protocol):
    """An engine that can tell how likely given continuations are."""

    def score(self, context: Request, continuations: Sequence[str]) -> Sequence[Scored]:
        """One score for each of ``continuations``, as if the context were followed by it. None of them is empty."""

    def score_many(self, items: Iterable[tuple[Request, Sequence[str]]]) -> Iterator[Sequence[Scored]]:
        """The same for many items, in order; what their contexts have in common is computed once."""


@runtime_checkable
class LogitSource(Protocol):
    """An engine that gives its whole distribution over the next token."""

    def tokenize(self, text: str) -> Sequence[int]:
        """The tokens of a text, with those that the model expects around it."""

    def logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        """Logits after each token: float32 arrays [n, words], a few tokens at a time, in order; none is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a model does inside while it reads some tokens. Arrays; L layers, H heads, n tokens, k words.

    tokens       the n tokens that were read
    hidden       float32 [L + 1, n, n_embd]: what each layer reads, and what the last one leaves, before the output norm
    attention    float32 [L, H, n, n]: probabilities; a row adds up to 1
    lens_tokens  int32 [L + 1, n, k]: the k likeliest next tokens, likeliest first, if the model ended before that layer
    lens_logits  float32 [L + 1, n, k]: their logits ("logit lens", nostalgebraist 2020); k is 0 for encoders
    """

    tokens: Sequence[int]
    hidden: Any
    attention: Any
    lens_tokens: Any
    lens_logits: Any


@runtime_checkable
class Tracer(Protocol):
    """A model whose inside can be looked at."""

    def trace(self, prompt: Request | Sequence[int], *, n_top: int = 5) -> Trace:
        """Read a prompt and keep what happened; ``n_top`` words of the logit lens, 0 for none.

        Raises InvalidRequest when it would be more than the limit on numbers, ContextLengthExceeded, NotEnoughMemory.
        """


@runtime_checkable
class Benchmarkable(Protocol):
    """An engine that can time bare forward steps, without sampling or text."""

    @property
    def threads(self) -> int:
        """Threads that compute."""

    @property
    def isa(self) -> str:
        """Instruction set in use."""

    def benchmark(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds to read a prompt of that length, and to decode that many tokens after it; 0 tokens take 0 s."""


@runtime_checkable
class AdapterHost(Protocol):
    """An engine that holds LoRA adapters beside its model, for requests to choose from."""

    def load_adapter(self, path: Path, name: str | None = None) -> str:
        """Load a PEFT folder or GGUF file; returns its name. Raises ModelError, InvalidRequest for a taken name."""

    def unload_adapter(self, name: str) -> None:
        """Forget it. Raises UnknownOption, EngineError while it is in use."""

    @property
    def adapter_bytes(self) -> Mapping[str, int]:
        """The loaded adapters by name, and the memory that each takes."""


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """What an engine keeps of the tokens that it computed, in pages, and what that was good for since it was opened.

    limit_pages     the most there may be, of ``page_bytes`` each
    held_pages      of requests that are computed now
    idle_pages      kept for requests to come, and given up when room is needed
    asked_tokens    tokens of prompts that were looked up; ``found_tokens`` of them need not be computed
    evicted_pages   pages that were given up
    step_backs      how often a request gave up its pages to another, to be computed again later
    """

    page_bytes: int
    limit_pages: int
    held_pages: int
    idle_pages: int
    asked_tokens: int
    found_tokens: int
    evicted_pages: int
    step_backs: int


@runtime_checkable
class CacheHolder(Protocol):
    """An engine that keeps what it computed for requests that begin alike."""

    def cache_usage(self) -> CacheUsage:
        """The state between two steps."""

    def clear_cache(self) -> None:
        """Give up everything that no request holds."""
