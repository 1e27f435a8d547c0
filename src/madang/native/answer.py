"""One answer while it is generated: draw, decode to text, look for stop strings, step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from madang import _core
from madang.core.errors import EngineError, InvalidRequest
from madang.core.events import FinishReason, TextDelta, TokenLogprob
from madang.core.sampling import SamplingParams
from madang.core.stopping import StopMatcher
from madang.core.stopwatch import Stopwatch
from madang.formats.tokenizers import Detokenizer, Tokenizer
from madang.native.prompt import Prompt
from madang.native.sequence import CachedSequence


class Answer:
    """Makes the deltas of one request, and afterwards knows the facts for Done.

    sampling   fully resolved, with a seed
    limit      most tokens to generate
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt, sampling: SamplingParams, limit: int) -> None:
        self.n_tokens = 0
        self.stop_text: str | None = None
        self.finish_reason: FinishReason = "length"
        self._tokenizer = tokenizer
        self._limit = limit
        self._detokenizer = Detokenizer(tokenizer, at_start=prompt.answer_begins)
        self._matcher = StopMatcher(prompt.stop)
        self._n_alternatives = -1 if sampling.logprobs is None else sampling.logprobs
        self._sampler = _core.Sampler(_options(sampling, tokenizer.vocab_size))
        self._sampler.accept(np.array(prompt.tokens, np.int32))
        self._unshown: list[TokenLogprob] = []

    def deltas(self, sequence: CachedSequence, watch: Stopwatch) -> Iterator[TextDelta]:
        """Text as soon as it is whole and cannot begin a stop string, with the tokens that it took."""
        while self.n_tokens < self._limit:
            choice = self._choose(sequence)
            watch.token()
            self.n_tokens += 1
            if choice.token in self._tokenizer.end_ids:
                self.finish_reason = "stop"
                break
            if self._n_alternatives >= 0:
                self._unshown.append(self._report(choice))
            text, self.stop_text = self._matcher.push(self._detokenizer.push(choice.token))
            if text:
                yield self._delta(text)
            if self.stop_text is not None:
                self.finish_reason = "stop"
                return
            if self.n_tokens < self._limit:
                sequence.append(choice.token)
        yield from self._rest()

    def _choose(self, sequence: CachedSequence) -> _core.Choice:
        try:
            return self._sampler.sample(sequence.decoder, 0, self._n_alternatives)
        except RuntimeError as error:
            raise EngineError(
                f"Generation stopped: {error}.", hint="The weights may be damaged; pull again."
            ) from error

    def _rest(self) -> Iterator[TextDelta]:
        text, self.stop_text = self._matcher.push(self._detokenizer.flush())
        text += self._matcher.flush()
        if self.stop_text is not None:
            self.finish_reason = "stop"
        if text or self._unshown:
            yield self._delta(text)

    def _delta(self, text: str) -> TextDelta:
        delta = TextDelta(text, tuple(self._unshown))
        self._unshown.clear()
        return delta

    def _report(self, choice: _core.Choice) -> TokenLogprob:
        text = self._tokenizer.token_bytes(choice.token).decode("utf-8", "replace")
        return TokenLogprob(choice.token, text, choice.logprob, tuple(choice.alternatives))


def _options(sampling: SamplingParams, vocab_size: int) -> _core.SamplerOptions:
    options = _core.SamplerOptions()
    for name in _PASSED_ON:
        setattr(options, name, getattr(sampling, name))
    for token in sampling.logit_bias or {}:
        if not 0 <= token < vocab_size:
            raise InvalidRequest(f"logit_bias names token {token}, but there are {vocab_size}.", param="logit_bias")
    options.bias = list((sampling.logit_bias or {}).items())
    return options


_PASSED_ON = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
