"""The test double: a real engine that repeats the last message, a few bytes at a time.

It keeps every promise of the seam that needs no weights, so tests pass it where a model would go. Its tokens are runs
of 1, 3 and 2 bytes in turn, so they cut characters and stop strings; its toy distribution repeats faithfully at
ordinary temperatures and garbles at high ones. It does not model the penalties, runs one request at a time whatever the
priority, and never calls a tool that it is told of. Forms, calls that must come, reasoning and adapters are refused.
"""

from __future__ import annotations

import codecs
import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from madang.core.engine import EngineInfo
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest
from madang.core.events import ContextLedger, Done, Event, FinishReason, TextDelta, TokenLogprob, Usage
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.stopping import StopMatcher
from madang.core.stopwatch import Stopwatch

CONTEXT_TOKENS = 4096
_TOKEN_BYTES = (1, 3, 2)
_RIGHT_LOGIT = 20.0  # against 0 for the others: wrong less than once in 10^11 tokens at temperature 0.7, often at 10
_N_ALTERNATIVES = 4


class EchoEngine:
    """Repeats the last message, or the raw prompt."""

    def __init__(self, model: str = "echo", context_tokens: int | None = None) -> None:
        n_ctx = CONTEXT_TOKENS if context_tokens is None else context_tokens
        self.info = EngineInfo(engine="echo", model=model, context_tokens=n_ctx)
        self._busy = threading.Lock()
        self._closed = False
        self._last_prompt: list[bytes] = []

    def generate(self, request: Request) -> Iterator[Event]:
        """Stream the echo.

        Raises :class:`InvalidRequest` for what no echo can do, :class:`ContextLengthExceeded`, and :class:`EngineError`
        when busy or closed.
        """
        with self._running():
            _refuse_what_no_echo_does(request)
            watch = Stopwatch()
            prompt = _tokens(_prompt_text(request))
            n_ctx = self.info.context_tokens if request.context_tokens is None else request.context_tokens
            if len(prompt) >= n_ctx:
                raise ContextLengthExceeded(len(prompt), n_ctx)
            n_cached = self._reuse(prompt)
            watch.prompt_read(len(prompt) - n_cached)
            room = n_ctx - len(prompt)
            answer = _Answer(request, room if request.max_tokens is None else min(room, request.max_tokens), watch)
            yield from answer.deltas()
            yield Done(
                finish_reason=answer.finish_reason,
                usage=Usage(len(prompt), n_cached, answer.n_tokens),
                timings=watch.timings(answer.n_tokens),
                ledger=ContextLedger(n_ctx, len(prompt), n_cached, len(prompt), 0, answer.n_tokens),
                seed=answer.seed,
                stop_text=answer.stop_text,
            )

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of the request."""
        return len(_tokens(_prompt_text(request)))

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True

    @contextmanager
    def _running(self) -> Iterator[None]:
        if self._closed:
            raise EngineError("The echo engine is closed.")
        if not self._busy.acquire(blocking=False):
            raise EngineError("The echo engine is busy with another request and runs one at a time.")
        try:
            yield
        finally:
            self._busy.release()

    def _reuse(self, prompt: list[bytes]) -> int:
        """How many tokens the prompt shares with the one before; the last is always read again."""
        n_same = 0
        for ours, theirs in zip(prompt[:-1], self._last_prompt, strict=False):
            if ours != theirs:
                break
            n_same += 1
        self._last_prompt = prompt
        return n_same


class _Answer:
    """One echo: the deltas, and after them the facts for Done."""

    def __init__(self, request: Request, limit: int, watch: Stopwatch) -> None:
        sampling = request.sampling.resolved()
        self.seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(64)
        self.n_tokens = 0
        self.stop_text: str | None = None
        self._source = _tokens(request.messages[-1].content if request.prompt is None else request.prompt)
        self._limit = limit
        self._watch = watch
        self._n_top = sampling.logprobs
        self._sampler = _ToySampler(sampling, self.seed, self._source)
        self._matcher = StopMatcher(request.stop)

    @property
    def finish_reason(self) -> FinishReason:
        """ "length" when the limit came before the end of the echo."""
        return "length" if self.stop_text is None and self.n_tokens == self._limit else "stop"

    def deltas(self) -> Iterator[TextDelta]:
        """Text as soon as it is whole and cannot begin a stop string, with the tokens it took."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        unshown: list[TokenLogprob] = []
        for expected in self._source[: self._limit]:
            token = self._sampler.choose(expected)
            self.n_tokens += 1
            self._watch.token()
            if self._n_top is not None:
                unshown.append(self._sampler.report(expected, token, self._n_top))
            text, self.stop_text = self._matcher.push(decoder.decode(token))
            if text:
                yield TextDelta(text, tuple(unshown))
                unshown.clear()
            if self.stop_text is not None:
                return
        text = self._matcher.flush()  # bytes of a character that the limit cut are left out
        if text or unshown:
            yield TextDelta(text, tuple(unshown))


class _ToySampler:
    """Chooses between the right token and a few others of the same text."""

    def __init__(self, sampling: SamplingParams, seed: int, source: list[bytes]) -> None:
        self._sampling = sampling
        self._random = random.Random(seed)
        self._others = list(dict.fromkeys(source))[: _N_ALTERNATIVES + 1]

    def choose(self, expected: bytes) -> bytes:
        """Temperature, top-k, top-p and min-p, in that order, then a draw; temperature 0 takes the best."""
        temperature, top_k, top_p, min_p = (
            self._sampling.temperature or 0.0,
            self._sampling.top_k or 0,
            1.0 if self._sampling.top_p is None else self._sampling.top_p,
            self._sampling.min_p or 0.0,
        )
        ranked = self._ranked(expected)
        if temperature == 0:
            return ranked[0][0]
        best = ranked[0][1]
        weights = [(token, math.exp((logit - best) / temperature)) for token, logit in ranked]
        weights = [(token, weight) for token, weight in weights if weight >= min_p]
        weights = _nucleus(weights[: top_k or None], top_p)
        tokens, chances = zip(*weights, strict=True)
        choice: bytes = self._random.choices(tokens, chances)[0]
        return choice

    def report(self, expected: bytes, token: bytes, n_top: int) -> TokenLogprob:
        """Log-probabilities of the toy distribution itself, before temperature."""
        ranked = self._ranked(expected)
        log_total = math.log(sum(math.exp(logit) for _, logit in ranked))
        logprobs = {candidate: logit - log_total for candidate, logit in ranked}
        best = list(logprobs.items())[:n_top]
        top = tuple((_token_id(candidate), logprob) for candidate, logprob in best)
        return TokenLogprob(
            _token_id(token), _shown(token), logprobs[token], top, tuple(_shown(candidate) for candidate, _ in best)
        )

    def _ranked(self, expected: bytes) -> list[tuple[bytes, float]]:
        """Candidates with their logits, best first."""
        bias = self._sampling.logit_bias or {}
        others = [token for token in self._others if token != expected][:_N_ALTERNATIVES]
        logits = {expected: _RIGHT_LOGIT} | {token: -float(rank) for rank, token in enumerate(others)}
        biased = [(token, logit + bias.get(_token_id(token), 0.0)) for token, logit in logits.items()]
        return sorted(biased, key=lambda pair: pair[1], reverse=True)


def _refuse_what_no_echo_does(request: Request) -> None:
    asked = {
        "constraint": request.constraint is not None,
        "tool_choice": request.tool_choice not in ("auto", "none"),
        "reasoning": request.reasoning is True,  # asking for none changes nothing
        "adapter": request.adapter is not None,
    }
    for param, is_asked in asked.items():
        if is_asked:
            raise InvalidRequest(f"The echo engine only repeats; it cannot honour '{param}'.", param=param)


def _prompt_text(request: Request) -> str:
    """The toy chat template: one ``role: content`` line per message, or the raw prompt."""
    if request.prompt is not None:
        return request.prompt
    return "".join(f"{message.role}: {message.content}\n" for message in request.messages)


def _tokens(text: str) -> list[bytes]:
    """UTF-8 cut into runs of 1, 3 and 2 bytes."""
    data = text.encode()
    tokens: list[bytes] = []
    position = 0
    for size in cycle(_TOKEN_BYTES):
        if position >= len(data):
            return tokens
        tokens.append(data[position : position + size])
        position += size
    raise AssertionError("unreachable: cycle never ends")


def _token_id(token: bytes) -> int:
    """A leading one keeps zero bytes apart: b"\\0" and b"\\0\\0" differ."""
    return int.from_bytes(b"\1" + token)


def _shown(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _nucleus(weights: list[tuple[bytes, float]], top_p: float) -> list[tuple[bytes, float]]:
    """The most likely candidates whose share reaches ``top_p``, at least one."""
    total = sum(weight for _, weight in weights)
    kept: list[tuple[bytes, float]] = []
    share = 0.0
    for token, weight in weights:
        if kept and share >= top_p * total:
            break
        kept.append((token, weight))
        share += weight
    return kept
