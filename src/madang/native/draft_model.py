"""Guesses from a smaller model with the same vocabulary."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from madang import _core
from madang.hardware import PageGroups
from madang.native.pacing import Average
from madang.native.page_table import PageTable
from madang.native.pages import PagePool, pages_for
from madang.native.speculation import MOST_DRAFTS

READ_TOKENS = 128  # of a prompt at a time, so that no chat waits for long
_FIRST_RATE = 0.7
_FORGETTING = 0.98
_PROBE_EVERY = 48  # tokens, when guessing does not pay: whether it does by now


class DraftModel:
    """The small model and its own cache, of up to ``n_columns`` of 16 positions; one for all sequences of an engine."""

    def __init__(self, decoder: _core.Decoder, groups: PageGroups, n_columns: int) -> None:
        self.decoder = decoder
        self.groups = groups
        self.pool = PagePool(decoder, n_columns * groups.n_groups * decoder.page_bytes)
        self.token_s = Average()

    def guesser(self) -> ModelGuesser:
        """For a sequence that begins."""
        return ModelGuesser(self)


class ModelGuesser:
    """Asks the draft model for its most likely tokens. It reads what the sequence has read, some tokens a step."""

    def __init__(self, draft: DraftModel) -> None:
        self._draft = draft
        self._tokens: list[int] = []  # in the draft model's cache
        self._pages = PageTable(draft.groups)
        self._hits, self._count = _FIRST_RATE * 20, 20.0
        self._guess: list[int] = []
        self._n_unguessed = 0

    def chances(self, tokens: Sequence[int]) -> list[float]:
        """See Guesser. Reads on when there is much to read, and has nothing to say until that is done."""
        self._guess = []
        self._keep_common(tokens)
        self._draft.pool.release(self._pages.leave_behind(len(self._tokens)))  # guesses come after these
        if len(tokens) - len(self._tokens) > READ_TOKENS:
            begin = len(self._tokens)
            self._read(tokens[begin : begin + READ_TOKENS])
            return []
        self._n_unguessed += 1
        probes = self._n_unguessed % _PROBE_EVERY == 0
        rate = 1.0 if probes else self._hits / self._count
        return [rate] * (2 if probes else MOST_DRAFTS)

    def guess(self, tokens: Sequence[int], n: int) -> list[int]:
        """See Guesser."""
        unread = list(tokens[len(self._tokens) :])
        greedy = _core.Sampler(_greedy())
        for _ in range(n):
            if not self._read(unread):
                break
            unread = [greedy.sample(self._draft.decoder, 0).token]
            self._guess += unread
        return self._guess

    def guess_s(self, n: int) -> float:
        """See Guesser."""
        return n * (self._draft.token_s.value or 0.0)

    def learn(self, chosen: Sequence[int], n_drafted: int) -> None:
        """See Guesser."""
        if self._guess:
            self._n_unguessed = 0
        for guessed, token in zip(self._guess, chosen, strict=False):
            self._count = _FORGETTING * self._count + 1
            self._hits = _FORGETTING * self._hits + (guessed == token)
            if guessed != token:
                break

    def close(self) -> None:
        """See Guesser."""
        self._draft.pool.release(self._pages.clear())
        self._tokens = []

    def _keep_common(self, tokens: Sequence[int]) -> None:
        limit = min(len(self._tokens), len(tokens) - 1)
        del self._tokens[limit:]
        if self._tokens != tokens[:limit]:
            n_same = next(i for i in range(limit) if self._tokens[i] != tokens[i])
            del self._tokens[n_same:]

    def _read(self, tokens: Sequence[int]) -> bool:
        """Into the draft model's cache, with the logits of the last in row 0. False when there is no room for them."""
        n, start = len(tokens), len(self._tokens)
        n_columns = max(pages_for(start + n) - self._pages.n_columns, 0)
        missing = self._draft.pool.allocate(n_columns * self._draft.groups.n_groups)
        if missing is None:
            return False
        self._pages.append(missing)
        started = time.perf_counter()
        self._draft.decoder.step(
            np.array(tokens, np.int32),
            np.arange(start, start + n, dtype=np.int32),
            np.zeros(n, np.int32),
            self._pages.rows,
            np.array([n - 1], np.int32),
        )
        if n == 1:
            self._draft.token_s.add(time.perf_counter() - started)
        self._tokens.extend(tokens)
        return True


def _greedy() -> _core.SamplerOptions:
    options = _core.SamplerOptions()
    options.temperature = 0.0
    return options
