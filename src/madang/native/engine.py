"""The engine itself: requests in, events out."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from madang import _core
from madang.core.engine import EngineInfo
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest, MalformedFile
from madang.core.events import ContextLedger, Done, Event, Usage
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.stopwatch import Stopwatch
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.templates import template_for
from madang.formats.tokenizers import Tokenizer, tokenizer_from_gguf, tokenizer_from_json
from madang.hardware import Plan
from madang.models import ModelFiles
from madang.native.answer import Answer
from madang.native.loader import load_decoder
from madang.native.prompt import Prompter
from madang.native.sequence import CachedSequence


def load(files: ModelFiles, plan: Plan) -> NativeEngine:
    """Load a model.

    Raises UnsupportedModel for an architecture or type that has no code here, MalformedFile, NotEnoughMemory.
    """
    started = time.perf_counter()
    if files.format == "gguf":
        file = read_gguf(files.path)
        description, tokenizer = describe_gguf(file), tokenizer_from_gguf(file)
    else:
        description, tokenizer = describe_folder(files.path), tokenizer_from_json(files.path)
    n_words = description.spec.vocab_size
    if tokenizer.vocab_size > n_words:
        raise MalformedFile(files.path, f"its tokenizer has {tokenizer.vocab_size} tokens, but its weights {n_words}")
    decoder = load_decoder(files.name, description, plan)
    info = EngineInfo(
        engine="native",
        model=files.name,
        context_tokens=plan.context_tokens.value,
        load_s=time.perf_counter() - started,
    )
    return NativeEngine(info, decoder, tokenizer, files.sampling_defaults, plan.prefill_chunk_tokens.value)


class NativeEngine:
    """A model in memory. It runs one generation at a time and keeps that conversation's cache for the next."""

    def __init__(
        self,
        info: EngineInfo,
        decoder: _core.Decoder,
        tokenizer: Tokenizer,
        sampling_defaults: SamplingParams,
        chunk_tokens: int,
    ) -> None:
        self.info = info
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer, template_for(tokenizer))
        self._sampling_defaults = sampling_defaults
        self._chunk_tokens = chunk_tokens
        self._sequence: CachedSequence | None = CachedSequence(decoder)
        self._busy = threading.Lock()

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer.

        Raises ContextLengthExceeded and InvalidRequest before anything is computed, TemplateError, EngineError when
        busy or closed.
        """
        with self._running() as sequence:
            watch = Stopwatch(load_s=self.info.load_s)
            prompt = self._prompter.prompt(request)
            tokens, n_prompt = prompt.tokens, len(prompt.tokens)
            n_ctx = self.info.context_tokens
            if not tokens:
                raise InvalidRequest(
                    "The prompt is empty, and this model has no token that begins a text.", param="prompt"
                )
            if n_prompt + (request.max_tokens != 0) > n_ctx:
                raise ContextLengthExceeded(n_prompt, n_ctx)
            sampling = self._seeded(request.sampling.resolved(self._sampling_defaults))
            room = n_ctx - n_prompt
            limit = room if request.max_tokens is None else min(room, request.max_tokens)
            answer = Answer(self._tokenizer, prompt, sampling, limit)
            n_cached = sequence.keep_common_prefix(tokens)
            sequence.read(tokens[n_cached:], self._chunk_tokens)
            watch.prompt_read(n_prompt - n_cached)
            yield from answer.deltas(sequence, watch)
            yield Done(
                finish_reason=answer.finish_reason,
                usage=Usage(n_prompt, n_cached, answer.n_tokens),
                timings=watch.timings(answer.n_tokens),
                ledger=ContextLedger(n_ctx, n_prompt, n_cached, n_prompt, 0, answer.n_tokens),
                seed=sampling.seed,
                stop_text=answer.stop_text,
            )

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request, template included."""
        return len(self._prompter.prompt(request).tokens)

    def benchmark(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds to read a random prompt in one step per chunk, then to decode at that depth; the cache is lost."""
        with self._running() as sequence:
            draw = random.Random(time.perf_counter_ns())
            tokens = [draw.randrange(self._tokenizer.vocab_size) for _ in range(prompt_tokens + decode_tokens)]
            sequence.tokens.clear()
            started = time.perf_counter()
            sequence.read(tokens[:prompt_tokens], self._chunk_tokens)
            prompt_read = time.perf_counter()
            for token in tokens[prompt_tokens:]:
                sequence.append(token)
            done = time.perf_counter()
            sequence.tokens.clear()
            return prompt_read - started, done - prompt_read

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._open_sequence().decoder.n_threads

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return self._open_sequence().decoder.isa

    def close(self) -> None:
        """Free weights and cache; a second call does nothing."""
        self._sequence = None

    @contextmanager
    def _running(self) -> Iterator[CachedSequence]:
        sequence = self._open_sequence()
        if not self._busy.acquire(blocking=False):
            raise EngineError(f"The engine of {self.info.model} is busy; this version runs one generation at a time.")
        try:
            yield sequence
        finally:
            self._busy.release()

    def _open_sequence(self) -> CachedSequence:
        if self._sequence is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        return self._sequence

    def _seeded(self, sampling: SamplingParams) -> SamplingParams:
        if sampling.seed is not None:
            return sampling
        return sampling.resolved(SamplingParams(seed=random.SystemRandom().getrandbits(64)))
