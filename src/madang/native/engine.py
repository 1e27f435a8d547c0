"""The engine itself: requests in, events out.

Life of a request: the caller's thread turns it into tokens and checks it; the worker's thread computes it together with
all others (scheduler.py) and puts events into its outbox, from which the caller's thread yields them.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from madang.core.engine import CacheUsage, EngineInfo, Scored, Trace
from madang.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    NotEnoughMemory,
)
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.stopwatch import Stopwatch
from madang.formats.spec import ModelDescription
from madang.formats.templates import template_for
from madang.formats.tokenizers import Tokenizer
from madang.hardware import kv_cache_bytes
from madang.native.adapters import Adapters
from madang.native.bare_steps import time_bare_steps
from madang.native.cache import SavedPages
from madang.native.form import Forms
from madang.native.pages import PAGE_TOKENS
from madang.native.prefix_file import PrefixFacts, read_prefix, write_prefix
from madang.native.prompt import Prompter
from madang.native.scheduler import Scheduler
from madang.native.scoring import encode_continuation, score_items
from madang.native.sequence import CachedSequence, Namespace, Work
from madang.native.stream import AnswerStream
from madang.native.tracing import check_trace, trace_tokens
from madang.native.work import Gathering, Generation, PageContents, Rows
from madang.native.worker import Worker

T = TypeVar("T")

_LOGIT_ROWS = 4 * PAGE_TOKENS  # that a caller holds at a time


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What an engine knows of its model beside weights; ``trained_tokens`` is the longest context it understands."""

    description: ModelDescription
    tokenizer: Tokenizer
    sampling_defaults: SamplingParams
    trained_tokens: int
    prefix_facts: PrefixFacts


class NativeEngine:
    """A model in memory. Any number of threads may use it at once; what does not fit side by side waits its turn."""

    def __init__(self, info: EngineInfo, model: LoadedModel, scheduler: Scheduler) -> None:
        self.info = info
        self._model = model
        self._prompter = Prompter(model.tokenizer, template_for(model.tokenizer))
        self._forms = Forms(model.tokenizer, self._prompter.dialect)
        self._limits = scheduler.limits
        self._threads, self._isa = scheduler.decoder.n_threads, scheduler.decoder.isa
        self._worker = Worker(scheduler, info.model)
        self._adapters = Adapters(model.description, self._worker)
        # Also when the interpreter exits: the thread that computes must not outlive it.
        weakref.finalize(self, self._worker.close)

    def generate(self, request: Request) -> AnswerStream:
        """Stream the answer; closing the iterator stops the computation, and so does ``cancel`` from any thread.

        Raises ContextLengthExceeded and InvalidRequest before anything is computed, TemplateError, EngineError when
        closed, NotEnoughMemory when the system has none left.
        """
        return AnswerStream(self._worker, lambda: self._answering(request, Stopwatch(load_s=self.info.load_s)))

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request, template included."""
        return len(self._prompter.prompt(request).tokens)

    # ---- scores and logits

    def score(self, context: Request, continuations: Sequence[str]) -> list[Scored]:
        """See core.engine.Scorer."""
        return next(self.score_many([(context, continuations)]))

    def score_many(self, items: Iterable[tuple[Request, Sequence[str]]]) -> Iterator[list[Scored]]:
        """See core.engine.Scorer."""
        encode = partial(encode_continuation, self._prompter, self.info.context_tokens)
        return score_items(
            self._worker,
            (
                ([encode(context, text) for text in texts], self._adapters.namespace(context.adapter))
                for context, texts in items
            ),
        )

    def tokenize(self, text: str) -> list[int]:
        """See core.engine.LogitSource."""
        return self._model.tokenizer.encode(text)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """See core.engine.Speller."""
        tokenizer = self._model.tokenizer
        wrong = next((token for token in tokens if not 0 <= token < tokenizer.vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(f"There is no token {wrong}; this model has {tokenizer.vocab_size}.", param="tokens")
        return b"".join(tokenizer.token_bytes(token) for token in tokens).decode("utf-8", "replace")

    def render(self, request: Request) -> str:
        """See core.engine.Speller."""
        return self._prompter.shown(request)

    def logits(self, tokens: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """See core.engine.LogitSource."""
        self._check_tokens(tokens)
        for begin in range(0, len(tokens), _LOGIT_ROWS):
            known = list(tokens[: begin + _LOGIT_ROWS])
            work = Rows()
            yield self._finished(self._background(known, begin, work, of=len(tokens)), work)

    def trace(self, prompt: Request | Sequence[int], *, n_top: int = 5) -> Trace:
        """See core.engine.Tracer. What an adapter adds to the output matrix is not in the logit lens."""
        tokens, namespace = self._tokens(prompt), Namespace()
        if isinstance(prompt, Request):
            namespace = self._adapters.namespace(prompt.adapter)
        self._check_length(len(tokens), self.info.context_tokens, room=0)
        check_trace(self._model.description.spec, tokens, n_top)
        namespace = namespace._replace(is_long=self._limits.is_long(len(tokens)))
        return trace_tokens(self._worker, tokens, namespace, n_top)

    # ---- adapters

    def load_adapter(self, path: Path, name: str | None = None) -> str:
        """See core.engine.AdapterHost."""
        return self._adapters.load(path, name)

    def unload_adapter(self, name: str) -> None:
        """See core.engine.AdapterHost."""
        self._adapters.unload(name)

    @property
    def adapter_bytes(self) -> Mapping[str, int]:
        """See core.engine.AdapterHost."""
        return {name: resident.size_bytes for name, resident in self._adapters.resident.items()}

    # ---- prefixes on disk

    def save_prefix(self, prompt: Request | Sequence[int], path: Path) -> int:
        """Compute a prompt, as far as it has not been, and write its cache to a file; returns its number of tokens.

        Raises what ``generate`` raises before its first event, and OSError.
        """
        tokens = self._tokens(prompt)
        self._check_tokens(tokens)
        work = PageContents()
        saved = self._finished(self._background(tokens, len(tokens), work, of=len(tokens)), work)
        facts = replace(self._model.prefix_facts, n_tokens=len(tokens), first_held=saved.first_held)
        write_prefix(path, facts, tokens, saved.contents)
        return len(tokens)

    def load_prefix(self, path: Path) -> int:
        """Put a saved prefix into the cache, where requests that begin with it find it; returns its number of tokens.

        Raises InvalidPrefix when the file is damaged or of another model, NotEnoughMemory, OSError.
        """
        facts, tokens, pages = read_prefix(path, self._model.prefix_facts, self._limits.groups)
        saved = SavedPages(facts.first_held, pages)
        namespace = Namespace(is_long=self._limits.is_long(len(tokens)))
        self._worker.ask(lambda scheduler: scheduler.cache.fill(namespace, tokens, saved))
        return len(tokens)

    # ---- facts and measurements

    def cache_usage(self) -> CacheUsage:
        """See core.engine.CacheHolder. Raises EngineError when closed."""
        return self._worker.ask(lambda scheduler: scheduler.usage)

    def clear_cache(self) -> None:
        """See core.engine.CacheHolder. Raises EngineError when closed."""
        self._worker.ask(lambda scheduler: scheduler.cache.tree.clear())

    def benchmark(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds to read a random prompt in one step per chunk, then to decode at that depth; others wait."""
        n_words = self._model.tokenizer.vocab_size
        return self._worker.ask(lambda scheduler: time_bare_steps(scheduler, n_words, prompt_tokens, decode_tokens))

    @property
    def threads(self) -> int:
        """Threads that compute."""
        self._worker.check_open()
        return self._threads

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        self._worker.check_open()
        return self._isa

    def close(self) -> None:
        """End what is being generated, free weights and cache; a second call does nothing."""
        self._worker.close()

    # ---- requests to sequences

    def _answering(self, request: Request, watch: Stopwatch) -> tuple[CachedSequence, Generation]:
        """Everything that can be wrong with a request is found here."""
        self._worker.check_open()
        prompt = self._prompter.prompt(request)
        n_prompt, n_ctx = len(prompt.tokens), self._context(request)
        self._check_length(n_prompt, n_ctx, room=int(request.max_tokens != 0))
        room = n_ctx - n_prompt
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        sampling = _seeded(request.sampling.resolved(self._model.sampling_defaults))
        form = self._forms.form(request, thinks=prompt.thinks)
        work = Generation(self._model.tokenizer, prompt, sampling, form=form, limit=limit, n_ctx=n_ctx, watch=watch)
        first_row = n_prompt - 1 if limit > 0 else n_prompt
        namespace = self._adapters.namespace(request.adapter)
        return CachedSequence(list(prompt.tokens), first_row, work, request.priority, namespace), work

    def _tokens(self, prompt: Request | Sequence[int]) -> list[int]:
        return self._prompter.prompt(prompt).tokens if isinstance(prompt, Request) else list(prompt)

    def _context(self, request: Request) -> int:
        """The request's own context, which may be longer than the engine's: the cache grows as it is needed."""
        n_ctx, trained = request.context_tokens, self._model.trained_tokens
        if n_ctx is None:
            return self.info.context_tokens
        if n_ctx > trained:
            raise InvalidRequest(
                f"A context of {n_ctx} tokens was asked for, but {self.info.model} was trained for {trained}.",
                param="context_tokens",
                hint=f"Ask for at most {trained}.",
            )
        model = self._model
        needed_bytes = kv_cache_bytes(
            model.description.spec,
            n_ctx,
            kv_type=model.prefix_facts.kv_type,
            step_tokens=self._limits.chunk_tokens,
        )
        if needed_bytes > self._limits.cache_bytes:
            raise NotEnoughMemory(f"A context of {n_ctx} tokens", needed_bytes, self._limits.cache_bytes)
        return n_ctx

    def _check_length(self, n_tokens: int, n_ctx: int, *, room: int) -> None:
        if n_tokens == 0:
            raise InvalidRequest("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        if n_tokens + room > n_ctx:
            raise ContextLengthExceeded(n_tokens, n_ctx)

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        """Those that a caller chose himself."""
        self._check_length(len(tokens), self.info.context_tokens, room=0)
        n_words = self._model.description.spec.vocab_size
        wrong = next((token for token in tokens if not 0 <= token < n_words), None)
        if wrong is not None:
            raise InvalidRequest(f"There is no token {wrong}; this model has {n_words}.", param="tokens")

    def _background(self, tokens: list[int], first_row: int, work: Work, *, of: int) -> CachedSequence:
        """Background work on the beginning of a text of so many tokens."""
        namespace = Namespace(is_long=self._limits.is_long(of))
        return CachedSequence(tokens, first_row, work, "background", namespace)

    def _finished(self, sequence: CachedSequence, work: Gathering[T]) -> T:
        self._worker.submit(sequence)
        try:
            return work.outbox.take()
        except BaseException:
            self._worker.cancel(sequence)
            raise


def _seeded(sampling: SamplingParams) -> SamplingParams:
    if sampling.seed is not None:
        return sampling
    return sampling.resolved(SamplingParams(seed=random.SystemRandom().getrandbits(64)))
