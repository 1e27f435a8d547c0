"""Models that another library computes a step at a time: everything around the step is our own.

Template, tokenizer, sampler, forms, dialects and stop strings are the native engine's, so one request means the same to
each of them, token by token. Requests take turns step by step; a conversation's cache is kept for its next turn.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from madang.core.engine import EngineInfo
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest
from madang.core.events import ContextLedger, Done, Event, Usage
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.stopwatch import Stopwatch
from madang.formats.dialects.reader import Delta
from madang.formats.templates import template_for
from madang.formats.tokenizers import Tokenizer
from madang.native.answer import Answer, ArrayRow
from madang.native.form import Forms
from madang.native.prompt import Prompt, Prompter

Logits = npt.NDArray[np.float32]
Cache = Any  # the library's own

_CHUNK_TOKENS: Final = 512  # of a prompt; others have their turn in between


class StepModel(Protocol):
    """What a library does: it is called by one thread at a time."""

    def new_cache(self) -> Cache:
        """An empty cache of a sequence."""

    def step(self, tokens: Sequence[int], cache: Cache) -> Logits:
        """Read tokens after those in the cache, and add them; the logits after the last, [words]."""

    def all_logits(self, tokens: Sequence[int], cache: Cache) -> Logits:
        """The same with the logits after each token, [n, words]."""

    def shorten(self, cache: Cache, n_tokens: int) -> bool:
        """Forget the last tokens of a cache, if that can be done; otherwise change nothing."""

    def close(self) -> None:
        """Free the weights."""


@dataclass(slots=True)
class _Sequence:
    """Tokens that have been read, and what the library keeps of them; not ``is_whole`` while a step changes that."""

    cache: Cache
    tokens: list[int] = field(default_factory=list)
    is_whole: bool = True


class SteppingEngine:
    """A model of another library. Threads may share it; ``max_concurrency`` is 1, as more at once are no faster."""

    def __init__(
        self, info: EngineInfo, model: StepModel, tokenizer: Tokenizer, sampling_defaults: SamplingParams
    ) -> None:
        self.info = info
        self._model: StepModel | None = model
        self._tokenizer = tokenizer
        self._defaults = sampling_defaults
        self._prompter = Prompter(tokenizer, template_for(tokenizer))
        self._forms = Forms(tokenizer, self._prompter.dialect)
        self._turn = threading.Lock()  # of a step
        self._kept: _Sequence | None = None  # of the request that ended last

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer; closing the iterator ends the computation before the next step.

        Raises ContextLengthExceeded and InvalidRequest before anything is computed, TemplateError, EngineError when
        closed or when the library fails.
        """
        watch = Stopwatch(load_s=self.info.load_s)
        self._open_model()
        prompt = self._prompter.prompt(request)
        n_prompt, n_ctx = len(prompt.tokens), self.info.context_of(request)
        self._check(request, n_prompt, n_ctx)
        room = n_ctx - n_prompt
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        sampling = _seeded(request.sampling.resolved(self._defaults))
        unsent: list[Delta] = []
        answer = self._answer(request, prompt, sampling, limit, unsent)
        with self._sequence(prompt.tokens) as sequence:
            n_cached = len(sequence.tokens)
            watch.begin()
            logits = self._read(sequence, prompt.tokens[n_cached:])
            watch.prompt_read(n_prompt - n_cached)
            while limit > 0:
                token = answer.next_token(ArrayRow(logits))
                watch.token()
                yield from unsent
                unsent.clear()
                if answer.is_done:
                    break
                logits = self._read(sequence, [token])
        yield Done(
            finish_reason=answer.finish_reason,
            usage=Usage(n_prompt, n_cached, answer.n_tokens, answer.n_reasoning_tokens),
            timings=watch.timings(answer.n_tokens),
            ledger=ContextLedger(n_ctx, n_prompt, n_cached, n_prompt, 0, answer.n_tokens),
            seed=sampling.seed,
            stop_text=answer.stop_text,
        )

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request, template included."""
        return len(self._prompter.prompt(request).tokens)

    def tokenize(self, text: str) -> list[int]:
        """See core.engine.LogitSource."""
        return self._tokenizer.encode(text)

    def logits(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """See core.engine.LogitSource."""
        self.info.check_texts([tokens])
        wrong = next((token for token in tokens if not 0 <= token < self._tokenizer.vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(f"There is no token {wrong}.", param="tokens")
        cache = self._open_model().new_cache()
        for begin in range(0, len(tokens), _CHUNK_TOKENS):
            with self._turn:
                rows = self._open_model().all_logits(tokens[begin : begin + _CHUNK_TOKENS], cache)
            yield rows[:, : self._tokenizer.vocab_size]

    def close(self) -> None:
        """Free weights and caches; a second call does nothing."""
        with self._turn:
            if self._model is not None:
                self._model.close()
            self._model = self._kept = None

    def _open_model(self) -> StepModel:
        if self._model is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        return self._model

    def _check(self, request: Request, n_prompt: int, n_ctx: int) -> None:
        if request.adapter is not None:
            raise InvalidRequest(f"The {self.info.engine} engine loads no adapters.", param="adapter")
        if n_prompt == 0:
            raise InvalidRequest("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        if n_prompt + int(request.max_tokens != 0) > n_ctx:
            raise ContextLengthExceeded(n_prompt, n_ctx)

    def _answer(
        self, request: Request, prompt: Prompt, sampling: SamplingParams, limit: int, unsent: list[Delta]
    ) -> Answer:
        form = self._forms.form(request, thinks=prompt.thinks)
        return Answer(self._tokenizer, prompt, sampling, limit, form=form, emit=unsent.append)

    @contextmanager
    def _sequence(self, prompt: Sequence[int]) -> Iterator[_Sequence]:
        """What is known of the beginning of a prompt, for one request alone; the last token is always read again."""
        with self._turn:
            kept, self._kept = self._kept, None
            sequence = self._continued(kept, prompt) if kept is not None else None
            if sequence is None:
                sequence = _Sequence(self._open_model().new_cache())
        try:
            yield sequence
        finally:
            with self._turn:
                if self._model is not None and sequence.is_whole:
                    self._kept = sequence

    def _continued(self, kept: _Sequence, prompt: Sequence[int]) -> _Sequence | None:
        pairs = zip(kept.tokens, prompt[:-1], strict=False)
        n_same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(kept.tokens), len(prompt) - 1))
        n_more = len(kept.tokens) - n_same
        if n_same == 0 or (n_more and not self._open_model().shorten(kept.cache, n_more)):
            return None
        return _Sequence(kept.cache, kept.tokens[:n_same])

    def _read(self, sequence: _Sequence, tokens: Sequence[int]) -> Logits:
        """The logits after the last of ``tokens``, of which there is at least one."""
        for begin in range(0, len(tokens), _CHUNK_TOKENS):
            chunk = tokens[begin : begin + _CHUNK_TOKENS]
            with self._turn:
                model, sequence.is_whole = self._open_model(), False
                logits = model.step(chunk, sequence.cache)
                sequence.tokens += chunk
                sequence.is_whole = True
        return logits[: self._tokenizer.vocab_size]  # some models have rows that stand for no token


def _seeded(sampling: SamplingParams) -> SamplingParams:
    if sampling.seed is not None:
        return sampling
    return sampling.resolved(SamplingParams(seed=random.SystemRandom().getrandbits(64)))
