"""What sequences are computed for: an answer, rows of logits, scores, or only to be in the cache.

Each hands its results through a queue to the thread that waits for them; an exception in the queue is raised there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.events import ContextLedger, Done, Event, Usage
from madang.core.sampling import SamplingParams
from madang.core.stopwatch import Stopwatch
from madang.formats.dialects.reader import Delta
from madang.formats.tokenizers import Tokenizer
from madang.native.answer import Answer, DecoderRow
from madang.native.cache import SavedPages
from madang.native.form import AnswerForm
from madang.native.prompt import Prompt
from madang.native.sequence import CachedSequence

T = TypeVar("T")


class Outbox(Generic[T]):
    """Results on their way from the thread that computes to the one that waits."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[T | Exception] = SimpleQueue()
        self.put: Callable[[T | Exception], None] = self._queue.put

    def pass_on(self, receive: Callable[[T | Exception], None]) -> None:
        """Let ``receive`` have them from now on, in the thread that computes; there is nothing to take any more."""
        self.put = receive

    def take(self) -> T:
        """The next one, when it comes; raises what ended the work."""
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item


class Generation:
    """An answer. Its events come out of ``outbox``, those of a step together; the last is a Done."""

    chooses = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        form: AnswerForm,
        limit: int,
        n_ctx: int,
        watch: Stopwatch,
    ) -> None:
        self.outbox: Outbox[list[Event]] = Outbox()
        self._unsent: list[Event] = []
        self._answer = Answer(tokenizer, prompt, sampling, limit, form=form, emit=self._emit)
        self._n_prompt = len(prompt.tokens)
        self._n_ctx = n_ctx
        self._n_cached = 0
        self._seed = sampling.seed
        self._watch = watch

    @property
    def is_done(self) -> bool:
        """See Work."""
        return self._answer.is_done

    @property
    def forced(self) -> Sequence[int]:
        """See Work."""
        return self._answer.forced

    def begins(self, n_cached: int) -> None:
        """See Work."""
        self._n_cached = n_cached
        self._watch.begin()

    def row(self, decoder: _core.Decoder, row: int) -> int:
        """See Work."""
        if self._answer.n_tokens == 0:
            self._prompt_read()
        token = self._answer.next_token(DecoderRow(decoder, row))
        self._watch.token()
        return token

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        """See Work."""
        answer, n_prompt, n_cached = self._answer, self._n_prompt, self._n_cached
        if answer.n_tokens == 0:
            self._prompt_read()
        timings = self._watch.timings(answer.n_tokens)
        self._unsent.append(
            Done(
                finish_reason=answer.finish_reason,
                usage=Usage(n_prompt, n_cached, answer.n_tokens, answer.n_reasoning_tokens),
                timings=replace(timings, drafted_tokens=sequence.n_drafted, accepted_tokens=sequence.n_accepted),
                ledger=ContextLedger(self._n_ctx, n_prompt, n_cached, n_prompt, 0, answer.n_tokens),
                seed=self._seed,
                stop_text=answer.stop_text,
            )
        )

    def hand_over(self) -> None:
        """See Work."""
        if self._unsent:
            self.outbox.put(self._unsent)
            self._unsent = []

    def fails(self, error: Exception) -> None:
        """See Work."""
        self.hand_over()
        self.outbox.put(error)

    def _emit(self, delta: Delta) -> None:
        self._unsent.append(delta)

    def _prompt_read(self) -> None:
        self._watch.prompt_read(self._n_prompt - self._n_cached)


class Gathering(Generic[T]):
    """Work that chooses no token and hands over one result in the end."""

    chooses = False
    forced: Sequence[int] = ()
    is_done = False  # before all tokens have been computed

    def __init__(self) -> None:
        self.outbox: Outbox[T] = Outbox()

    def begins(self, n_cached: int) -> None:
        """See Work."""

    def hand_over(self) -> None:
        """See Work: its result has been handed over when it ended."""

    def fails(self, error: Exception) -> None:
        """See Work."""
        self.outbox.put(error)


class Rows(Gathering[npt.NDArray[np.float32]]):
    """The logits of all wanted rows, [rows, words]."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[npt.NDArray[np.float32]] = []

    def row(self, decoder: _core.Decoder, row: int) -> None:
        """See Work."""
        self._rows.append(decoder.logits(row))

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        """See Work."""
        self.outbox.put(np.stack(self._rows))


class Likelihoods(Gathering[list[tuple[list[float], int]]]):
    """For each wanted row, the log-probabilities of some tokens, and the likeliest of all."""

    def __init__(self, candidates: list[list[int]]) -> None:
        """``candidates``: the tokens asked for, a list for each row."""
        super().__init__()
        self._candidates = candidates
        self._found: list[tuple[list[float], int]] = []

    def row(self, decoder: _core.Decoder, row: int) -> None:
        """See Work."""
        tokens = np.array(self._candidates[len(self._found)], np.int32)
        self._found.append(decoder.log_probabilities(row, tokens))

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        """See Work."""
        self.outbox.put(self._found)


class PageContents(Gathering[SavedPages]):
    """The bytes of all pages."""

    def row(self, decoder: _core.Decoder, row: int) -> None:
        """See Work."""

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        """See Work."""
        pages = sequence.pages
        self.outbox.put(SavedPages(pages.first_held, [decoder.read_page(page) for page in pages.held()]))
