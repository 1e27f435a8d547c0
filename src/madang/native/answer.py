"""One answer while it is generated: draw, decode to text, look for stop strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.errors import EngineError, InvalidRequest
from madang.core.events import FinishReason, TextDelta, TokenLogprob
from madang.core.sampling import DRAWING, SamplingParams
from madang.core.stopping import StopMatcher
from madang.formats.dialects.reader import Delta
from madang.formats.tokenizers import Detokenizer, Tokenizer
from madang.native.constraints import Bits
from madang.native.form import AnswerForm
from madang.native.prompt import Prompt

# The parser spells out all that is forced after each token; a step with 16 of a very long text would hold up others.
_MOST_FORCED: Final = 512


class LogitRow(Protocol):
    """The logits of one position, wherever they are; what a sampler does with them (_core.pyi)."""

    def sample(self, sampler: _core.Sampler, n_alternatives: int, mask: Bits | None = None) -> _core.Choice:
        """Draw a token."""

    def foresee(self, sampler: _core.Sampler) -> int:
        """The token that is sure to be drawn if it may; -1 when there is none."""

    def take(self, sampler: _core.Sampler, token: int, n_alternatives: int) -> _core.Choice:
        """Draw this token."""


@dataclass(frozen=True, slots=True)
class DecoderRow:
    """A row of our own decoder's last step."""

    decoder: _core.Decoder
    row: int

    def sample(self, sampler: _core.Sampler, n_alternatives: int, mask: Bits | None = None) -> _core.Choice:
        """See LogitRow."""
        return sampler.sample(self.decoder, self.row, n_alternatives, mask)

    def foresee(self, sampler: _core.Sampler) -> int:
        """See LogitRow."""
        return sampler.foresee(self.decoder, self.row)

    def take(self, sampler: _core.Sampler, token: int, n_alternatives: int) -> _core.Choice:
        """See LogitRow."""
        return sampler.take(self.decoder, self.row, token, n_alternatives)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayRow:
    """Logits that another library computed, [words]."""

    logits: npt.NDArray[np.float32]

    def sample(self, sampler: _core.Sampler, n_alternatives: int, mask: Bits | None = None) -> _core.Choice:
        """See LogitRow."""
        return sampler.sample_from(self.logits, n_alternatives, mask)

    def foresee(self, sampler: _core.Sampler) -> int:
        """See LogitRow."""
        return sampler.foresee_from(self.logits)

    def take(self, sampler: _core.Sampler, token: int, n_alternatives: int) -> _core.Choice:
        """See LogitRow."""
        return sampler.take_from(self.logits, token, n_alternatives)


class Answer:
    """Makes the deltas of one request, and afterwards knows the facts for Done.

    sampling   fully resolved, with a seed
    limit      most tokens to generate
    form       what the answer is held to, and how its text is read
    emit       takes what was said as soon as it is whole and cannot begin a stop string, with the tokens that it took
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: SamplingParams,
        limit: int,
        *,
        form: AnswerForm,
        emit: Callable[[Delta], None],
    ) -> None:
        self.n_tokens = 0
        self.n_reasoning_tokens = 0  # of them
        self.is_done = False
        self.stop_text: str | None = None
        self.finish_reason: FinishReason = "length"
        self._tokenizer = tokenizer
        self._limit = limit
        self._emit = emit
        self.forced: Sequence[int] = ()  # tokens that the form leaves no choice but to draw next
        self._mask, self._reader = form.mask, form.reader
        # Where the form says how an answer begins, a space at its beginning is meant.
        at_start = prompt.answer_begins and form.mask is None
        self._detokenizer = Detokenizer(tokenizer, at_start=at_start, shown=form.shown)
        self._matcher = StopMatcher(prompt.stop)
        self._n_alternatives = -1 if sampling.logprobs is None else sampling.logprobs
        self._sampler = _core.Sampler(_options(sampling, tokenizer.vocab_size))
        self._sampler.accept(np.array(prompt.tokens, np.int32))
        self._unshown: list[TokenLogprob] = []

    def next_token(self, row: LogitRow) -> int:
        """Draw from a row of logits, and say what there is to say. Raises EngineError when they are not numbers."""
        choice = self._choose(row)
        self.n_tokens += 1
        self.n_reasoning_tokens += self._reader is not None and self._reader.is_reasoning
        if choice.token in self._tokenizer.end_ids:
            self.finish_reason = "stop"
            self._end()
        else:
            self._show(choice)
            self._follow(choice.token)
        return choice.token

    def _choose(self, row: LogitRow) -> _core.Choice:
        try:
            return self._draw(row)
        except _core.NothingAllowed as error:
            raise EngineError("The constraint and logit_bias leave no token of this model to go on with.") from error
        except RuntimeError as error:
            raise EngineError(
                f"Generation stopped: {error}.", hint="The weights may be damaged; pull again."
            ) from error

    def _draw(self, row: LogitRow) -> _core.Choice:
        """Under the mask; where one token is sure to come if it may, asking for that one is cheaper than a mask."""
        if self._mask is None:
            return row.sample(self._sampler, self._n_alternatives)
        token = row.foresee(self._sampler)
        if token >= 0 and self._mask.allows(token):
            return row.take(self._sampler, token, self._n_alternatives)
        return row.sample(self._sampler, self._n_alternatives, self._mask.bitmask())

    def _follow(self, token: int) -> None:
        """Tell the constraint; where nothing can follow, the answer ends."""
        if self._mask is not None and not (self.is_done and self.finish_reason == "stop"):
            self._mask.accept(token)
            if self._mask.is_done:
                self.finish_reason = "stop"
                if not self.is_done:
                    self._end()
            forced = self._mask.forced()
            self.forced = forced if len(forced) <= _MOST_FORCED else ()

    def _show(self, choice: _core.Choice) -> None:
        if self._n_alternatives >= 0:
            self._unshown.append(self._report(choice))
        text, self.stop_text = self._matcher.push(self._detokenizer.push(choice.token))
        if text:
            self._say(text)
        if self.stop_text is not None:
            self.finish_reason = "stop"
            self._end()
        elif self.n_tokens >= self._limit:
            self._end()

    def _end(self) -> None:
        """Say what was held back, but for the bytes of a character that its last token has not completed."""
        self.is_done = True
        self._say("" if self.stop_text is not None else self._matcher.flush(), is_last=True)
        if self._reader is not None and self._reader.n_calls and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _say(self, text: str, *, is_last: bool = False) -> None:
        """Emit what the text is; the first delta takes the tokens of all text since the one before."""
        if self._reader is None:
            deltas: list[Delta] = [TextDelta(text)] if text else []
        else:
            deltas = self._reader.push(text) + (self._reader.flush() if is_last else [])
        if is_last and self._unshown and not deltas:
            deltas = [TextDelta("")]
        for delta in deltas:
            self._emit(replace(delta, logprobs=tuple(self._unshown)) if self._unshown else delta)
            self._unshown.clear()

    def _report(self, choice: _core.Choice) -> TokenLogprob:
        top_texts = tuple(self._token_text(token) for token, _ in choice.alternatives)
        return TokenLogprob(
            choice.token, self._token_text(choice.token), choice.logprob, tuple(choice.alternatives), top_texts
        )

    def _token_text(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")


def _options(sampling: SamplingParams, vocab_size: int) -> _core.SamplerOptions:
    options = _core.SamplerOptions()
    for name in (*DRAWING, "seed"):
        setattr(options, name, getattr(sampling, name))
    for token in sampling.logit_bias or {}:
        if not 0 <= token < vocab_size:
            raise InvalidRequest(f"logit_bias names token {token}, but there are {vocab_size}.", param="logit_bias")
    options.bias = list((sampling.logit_bias or {}).items())
    return options
