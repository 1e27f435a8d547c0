"""Requests to llama.cpp, and events from it.

Templates, tokens, stop strings and dialects are ours, so a prompt is the one that the native engine would read, and an
answer is read alike. llama.cpp computes and draws. Where a character takes several tokens, it reports the
log-probability of the last of them for all. Priorities are not modelled: it takes requests in turn.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from madang.core.engine import EngineInfo
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest
from madang.core.events import ContextLedger, Done, Event, FinishReason, TextDelta, TokenLogprob, Usage
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.stopping import StopMatcher
from madang.core.stopwatch import Stopwatch
from madang.engines.llamacpp.process import ServerDied, ServerOptions, ServerProcess
from madang.engines.llamacpp.wire import completion_body, refuse_what_is_not_done
from madang.formats.dialects import AnswerReader
from madang.formats.dialects.reader import Delta
from madang.formats.gguf import read_gguf
from madang.formats.templates import template_for
from madang.formats.tokenizers import Tokenizer, tokenizer_from_gguf
from madang.hardware import Plan
from madang.models import ModelFiles
from madang.native.form import tools_to_tell
from madang.native.prompt import Prompt, Prompter

_MOST_SLOTS: Final = 4
_SLOTS_BYTES: Final = 1 << 30  # its cache is there from the start, so more than one context must stay below this
_SPARE_DATA_BYTES: Final = 4 << 30  # interpreter, compute buffers, a driver's own


def load(files: ModelFiles, plan: Plan) -> LlamaCppEngine:
    """Load a GGUF file in a process of its own.

    Raises MalformedFile, UnsupportedModel for a tokenizer that is not known here, InvalidRequest for a draft model and
    for a model that makes vectors, EngineError when llama.cpp cannot load it.
    """
    if plan.speculation.value.startswith("draft:"):
        raise InvalidRequest("The llamacpp engine takes no draft model.", param="speculation")
    started = time.perf_counter()
    file = read_gguf(files.path)  # checks the header before llama.cpp reads it
    if file.get_int(f"{file.architecture}.pooling_type", 0):
        raise InvalidRequest(
            f"{files.name} makes vectors of texts; the llamacpp engine makes answers only.", param="engine"
        )
    tokenizer = tokenizer_from_gguf(file)
    options = _options(files, plan)
    process = ServerProcess(options)
    info = EngineInfo(
        engine="llamacpp",
        model=files.name,
        context_tokens=plan.context_tokens.value,
        max_concurrency=options.n_slots,
        load_s=time.perf_counter() - started,
    )
    return LlamaCppEngine(info, tokenizer, files.sampling_defaults, options, process)


def _options(files: ModelFiles, plan: Plan) -> ServerOptions:
    context_bytes = max(1, plan.memory.kv_cache_bytes) if plan.memory is not None else _SLOTS_BYTES
    n_fitting = min(plan.kv_limit_bytes.value, _SLOTS_BYTES) // context_bytes
    n_slots = max(1, min(plan.max_concurrency.value, _MOST_SLOTS, n_fitting))
    return ServerOptions(
        model=str(files.path),
        context_tokens=plan.context_tokens.value,
        n_slots=n_slots,
        threads=plan.threads.value,
        kv_type=plan.kv_type.value,
        data_limit_bytes=2 * (files.size_bytes + n_slots * context_bytes) + _SPARE_DATA_BYTES,
    )


@dataclass(slots=True)
class _Task:
    """One request, checked.

    sampling      resolved, with a seed
    limit         most tokens to say
    shown         control tokens that come as text
    drops_space   the first piece begins with a space that nobody wrote
    """

    request: Request
    prompt: Prompt
    sampling: SamplingParams
    n_ctx: int
    limit: int
    shown: tuple[str, ...]
    drops_space: bool
    watch: Stopwatch


class LlamaCppEngine:
    """A model that a child process holds. Any number of threads may use it at once."""

    def __init__(
        self,
        info: EngineInfo,
        tokenizer: Tokenizer,
        sampling_defaults: SamplingParams,
        options: ServerOptions,
        process: ServerProcess,
    ) -> None:
        self.info = info
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer, template_for(tokenizer))
        self._sampling_defaults = sampling_defaults
        self._options = options
        self._process = process
        self._starting = threading.Lock()
        self._is_closed = self._is_lost = False
        weakref.finalize(self, process.close)

    @property
    def is_alive(self) -> bool:
        """Whether it can answer. A child that died is started again; False once that failed, or when closed."""
        return not (self._is_closed or self._is_lost)

    @property
    def process_id(self) -> int:
        """Of the child."""
        return self._process.pid

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the answer; closing the iterator stops the computation.

        A child that dies meanwhile is started again, once, and the answer goes on behind what was said. Raises
        ContextLengthExceeded and InvalidRequest before anything is computed, TemplateError, EngineError.
        """
        task = self._checked(request, Stopwatch(load_s=self.info.load_s))
        answer = _Answer(task, self._reader(task))
        with closing(self._chunks(task, answer)) as chunks:
            for chunk in chunks:
                yield from answer.read(chunk)
                if answer.is_done:
                    break
        yield answer.done()

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request, template included."""
        return len(self._prompter.prompt(request).tokens)

    def close(self) -> None:
        """End the child; a second call does nothing."""
        with self._starting:
            self._is_closed = True
            self._process.close()

    # ---- requests

    def _checked(self, request: Request, watch: Stopwatch) -> _Task:
        """Everything that can be wrong with a request is found here."""
        if self._is_closed:
            raise EngineError(f"{self.info.model} is closed.")
        prompt = self._prompter.prompt(request)
        refuse_what_is_not_done(request, thinks=prompt.thinks)
        n_prompt, n_ctx = len(prompt.tokens), self.info.context_of(request)
        if n_prompt == 0:
            raise InvalidRequest("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        if n_prompt + int(request.max_tokens != 0) > n_ctx:
            raise ContextLengthExceeded(n_prompt, n_ctx)
        room = n_ctx - n_prompt
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        return _Task(
            request=request,
            prompt=prompt,
            sampling=self._sampling(request),
            n_ctx=n_ctx,
            limit=limit,
            shown=self._shown(request),
            drops_space=prompt.answer_begins and self._tokenizer.leading_space,
            watch=watch,
        )

    def _sampling(self, request: Request) -> SamplingParams:
        sampling = request.sampling.resolved(self._sampling_defaults)
        n_words = self._tokenizer.vocab_size
        for token in sampling.logit_bias or {}:
            if not 0 <= token < n_words:
                raise InvalidRequest(f"logit_bias names token {token}, but there are {n_words}.", param="logit_bias")
        return sampling if sampling.seed is not None else replace(sampling, seed=random.SystemRandom().getrandbits(32))

    def _shown(self, request: Request) -> tuple[str, ...]:
        """Control tokens that the reader of the answer wants to see."""
        if request.prompt is not None:
            return ()
        dialect = self._prompter.dialect
        tags = () if dialect.thinking is None else (dialect.thinking.opening, dialect.thinking.closing)
        calls = () if dialect.calls is None else dialect.calls.controls
        return tuple(self._tokenizer.control_ids(*tags, *calls))

    def _reader(self, task: _Task) -> AnswerReader | None:
        request, dialect = task.request, self._prompter.dialect
        if request.prompt is not None:
            return None
        calls = dialect.calls if tools_to_tell(request, dialect) else None
        if calls is None and dialect.thinking is None:
            return None
        names = frozenset(tool.name for tool in request.tools)
        return AnswerReader(dialect.thinking, calls, names, thinking_is_open=task.prompt.thinks)

    # ---- the child

    def _chunks(self, task: _Task, answer: _Answer) -> Generator[dict[str, Any]]:
        """What the child says, counted from the beginning of the answer even if there were two of them."""
        tokens, n_said = task.prompt.tokens, 0
        may_restart = True
        while True:
            room = min(task.limit - n_said, task.n_ctx - len(tokens))
            if n_said and room <= 0:  # it died behind the last token
                yield {"content": "", "tokens_predicted": n_said, "stop": True, "stop_type": "limit"}
                return
            body = completion_body(
                tokens,
                task.sampling,
                n_predict=max(room, 1),
                n_said=n_said,
                constraint=task.request.constraint,
                shown=task.shown,
            )
            try:
                with closing(self._living().complete(body)) as chunks:
                    for chunk in chunks:
                        yield {**chunk, "tokens_predicted": chunk["tokens_predicted"] + n_said}
                return
            except ServerDied:
                if self._is_closed or not may_restart or task.request.constraint is not None:
                    raise  # a grammar cannot be entered in the middle
                may_restart, n_said = False, answer.n_tokens
                tokens, _ = self._prompter.continued(task.request, answer.text)

    def _living(self) -> ServerProcess:
        """The child, started again if it has died. Raises EngineError when it does not start."""
        with self._starting:
            if self._is_closed:
                raise EngineError(f"{self.info.model} is closed.")
            if not self._process.is_alive:
                self._process.close()
                try:
                    self._process = ServerProcess(self._options)
                except EngineError:
                    self._is_lost = True
                    raise
                self._is_lost = False
                weakref.finalize(self, self._process.close)
            return self._process


@dataclass(slots=True)
class _Answer:
    """Makes deltas of the child's chunks, and afterwards knows the facts for Done.

    text   all that the model said, before stop strings and dialects
    """

    task: _Task
    reader: AnswerReader | None
    text: str = ""
    n_tokens: int = 0
    n_cached: int | None = None
    is_done: bool = False
    finish_reason: FinishReason = "length"
    stop_text: str | None = None
    matcher: StopMatcher = field(init=False)
    unshown: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.matcher = StopMatcher(self.task.prompt.stop)

    def read(self, chunk: dict[str, Any]) -> Iterator[Delta]:
        """What this chunk says."""
        self._note_times(chunk)
        if self.task.limit == 0:  # the one token that it had to draw is not asked for
            self.is_done = True
            return
        self.n_tokens = chunk["tokens_predicted"]
        piece = self._piece(chunk)
        self.unshown += self._logprobs(chunk)
        text, self.stop_text = self.matcher.push(piece)
        if self.stop_text is None and chunk["stop"]:
            text += self.matcher.flush()
            self.finish_reason = "length" if chunk.get("stop_type") == "limit" else "stop"
        elif self.stop_text is not None:
            self.finish_reason = "stop"
        self.is_done = self.stop_text is not None or chunk["stop"]
        yield from self._deltas(text)
        if self.is_done and self.reader is not None and self.reader.n_calls and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def done(self) -> Done:
        """The last event."""
        n_prompt, n_cached = len(self.task.prompt.tokens), self.n_cached or 0
        return Done(
            finish_reason=self.finish_reason,
            usage=Usage(n_prompt, n_cached, self.n_tokens),
            timings=self.task.watch.timings(self.n_tokens),
            ledger=ContextLedger(self.task.n_ctx, n_prompt, n_cached, n_prompt, 0, self.n_tokens),
            seed=self.task.sampling.seed,
            stop_text=self.stop_text,
        )

    def _piece(self, chunk: dict[str, Any]) -> str:
        piece: str = chunk["content"]
        if not self.text and self.task.drops_space:
            piece = piece.removeprefix(" ")
        self.text += piece
        return piece

    def _deltas(self, text: str) -> Iterator[Delta]:
        """The first delta takes the tokens of all text since the one before."""
        if self.reader is None:
            deltas: list[Delta] = [TextDelta(text)] if text else []
        else:
            deltas = self.reader.push(text) + (self.reader.flush() if self.is_done else [])
        if self.is_done and self.unshown and not deltas:
            deltas = [TextDelta("")]
        for delta in deltas:
            yield replace(delta, logprobs=tuple(self.unshown)) if self.unshown else delta
            self.unshown.clear()

    def _note_times(self, chunk: dict[str, Any]) -> None:
        """Of the first chunk: how much of the prompt was read, and how long it took; the rest was a queue."""
        timings = chunk.get("timings")
        if self.n_cached is not None or timings is None:
            return
        watch, n_prompt = self.task.watch, len(self.task.prompt.tokens)
        self.n_cached = min(timings["cache_n"], n_prompt - 1)
        watch.begin()
        watch.queue_s = max(watch.queue_s - timings["prompt_ms"] / 1000, 0.0)
        watch.prompt_read(n_prompt - self.n_cached)
        watch.token()

    def _logprobs(self, chunk: dict[str, Any]) -> Iterator[TokenLogprob]:
        n_top = self.task.sampling.logprobs
        if n_top is None:
            return
        for token in chunk.get("completion_probabilities", ()):
            others = token["top_logprobs"][:n_top]
            top = tuple((other["id"], other["logprob"]) for other in others)
            texts = tuple(other["token"] for other in others)
            yield TokenLogprob(token["id"], token["token"], token["logprob"], top, texts)
