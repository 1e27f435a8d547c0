"""One answer while it is generated: draw, decode to text, look for stop strings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from madang import _core
from madang.core.errors import EngineError, InvalidRequest
from madang.core.events import FinishReason, TextDelta, TokenLogprob
from madang.core.sampling import SamplingParams
from madang.core.stopping import StopMatcher
from madang.formats.tokenizers import Detokenizer, Tokenizer
from madang.native.prompt import Prompt


class Answer:
    """Makes the deltas of one request, and afterwards knows the facts for Done.

    sampling   fully resolved, with a seed
    limit      most tokens to generate
    emit       takes text as soon as it is whole and cannot begin a stop string, with the tokens that it took
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: SamplingParams,
        limit: int,
        emit: Callable[[TextDelta], None],
    ) -> None:
        self.n_tokens = 0
        self.is_done = False
        self.stop_text: str | None = None
        self.finish_reason: FinishReason = "length"
        self._tokenizer = tokenizer
        self._limit = limit
        self._emit = emit
        self._detokenizer = Detokenizer(tokenizer, at_start=prompt.answer_begins)
        self._matcher = StopMatcher(prompt.stop)
        self._n_alternatives = -1 if sampling.logprobs is None else sampling.logprobs
        self._sampler = _core.Sampler(_options(sampling, tokenizer.vocab_size))
        self._sampler.accept(np.array(prompt.tokens, np.int32))
        self._unshown: list[TokenLogprob] = []

    def next_token(self, decoder: _core.Decoder, row: int) -> int:
        """Draw from a row of logits, and say what there is to say. Raises EngineError when they are not numbers."""
        choice = self._choose(decoder, row)
        self.n_tokens += 1
        if choice.token in self._tokenizer.end_ids:
            self.finish_reason = "stop"
            self._end()
        else:
            self._show(choice)
        return choice.token

    def _choose(self, decoder: _core.Decoder, row: int) -> _core.Choice:
        try:
            return self._sampler.sample(decoder, row, self._n_alternatives)
        except RuntimeError as error:
            raise EngineError(
                f"Generation stopped: {error}.", hint="The weights may be damaged; pull again."
            ) from error

    def _show(self, choice: _core.Choice) -> None:
        if self._n_alternatives >= 0:
            self._unshown.append(self._report(choice))
        text, self.stop_text = self._matcher.push(self._detokenizer.push(choice.token))
        if text:
            self._emit(self._delta(text))
        if self.stop_text is not None:
            self.finish_reason = "stop"
            self.is_done = True
        elif self.n_tokens >= self._limit:
            self._end()

    def _end(self) -> None:
        """Say what was held back."""
        self.is_done = True
        text, self.stop_text = self._matcher.push(self._detokenizer.flush())
        text += self._matcher.flush()
        if self.stop_text is not None:
            self.finish_reason = "stop"
        if text or self._unshown:
            self._emit(self._delta(text))

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
