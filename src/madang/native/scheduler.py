"""Continuous batching: which sequences compute how many tokens in the next step.

    schedule -> compute -> postprocess, again and again (Yu et al., OSDI 2022)

Chats come before background work, and among equals whoever came first. Everyone who only needs the next token gets it
in every step; what is left of the step goes to prompts, in chunks as long as the waiting chats can bear. When pages
run out, the prefix tree gives up what has been unused longest, and then the last of the least important sequences
steps back: its tokens are computed again later, with the same bits.

One thread at a time may use a scheduler (native/worker.py has one).
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from madang import _core
from madang.core.engine import CacheUsage
from madang.core.errors import EngineError, MadangError, NotEnoughMemory
from madang.core.request import PRIORITIES
from madang.hardware import PageGroups
from madang.native.batch import compute
from madang.native.cache import PagedCache
from madang.native.pacing import Pace
from madang.native.pages import PAGE_TOKENS
from madang.native.sequence import CachedSequence, Share
from madang.native.speculation import MOST_DRAFTS, Guesser, Guessless, worthwhile_drafts

_LOGITS_BYTES = 32 << 20  # of one step's rows
_MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scheduler may use.

    chunk_tokens   the most of all prompts together in one step
    concurrency    sequences that are computed at once; the others wait
    cache_bytes    of all pages together
    vocab_size     words in a row of logits
    long_from      sequences of more tokens use the model's second set of rotary frequencies; None when it has one set
    groups         of layers that share pages, as the decoder has them
    """

    chunk_tokens: int
    concurrency: int
    cache_bytes: int
    vocab_size: int
    long_from: int | None = None
    groups: PageGroups = field(default_factory=PageGroups)

    @property
    def rows(self) -> int:
        """Rows of logits in one step."""
        return max(min(_MOST_ROWS, _LOGITS_BYTES // (4 * self.vocab_size)), self.concurrency)

    def is_long(self, n_tokens: int) -> bool:
        """Whether a sequence of so many tokens uses the second set of frequencies."""
        return self.long_from is not None and n_tokens > self.long_from


class Scheduler:
    """The sequences of one decoder. ``make_guesser`` makes what guesses the tokens of an answer; None never guesses.

    ``waiting`` and ``running`` are in the order of rank. ``n_step_backs`` counts how often one went back to the others.
    """

    def __init__(
        self,
        decoder: _core.Decoder,
        limits: Limits,
        make_guesser: Callable[[], Guesser] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.decoder = decoder
        self.limits = limits
        self.cache = PagedCache(decoder, limits.cache_bytes, limits.groups, limits.chunk_tokens)
        self.pace = pace or Pace()
        self.waiting: list[CachedSequence] = []
        self.running: list[CachedSequence] = []
        self.n_step_backs = 0
        self._make_guesser = make_guesser
        self._guessers: dict[CachedSequence, Guesser] = {}

    @property
    def usage(self) -> CacheUsage:
        """What the cache holds, and what it was good for."""
        pool, cache = self.cache.pool, self.cache
        return CacheUsage(
            page_bytes=self.decoder.page_bytes,
            limit_pages=pool.limit_pages,
            held_pages=pool.n_used - pool.n_idle,
            idle_pages=pool.n_idle,
            asked_tokens=cache.n_asked,
            found_tokens=cache.n_found,
            evicted_pages=cache.tree.n_evicted,
            step_backs=self.n_step_backs,
        )

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting or self.running)

    def add(self, sequence: CachedSequence) -> None:
        """Take a sequence on; its work hears of the rest."""
        if self.cache.most_pages(len(sequence.tokens)) > self.cache.pool.limit_pages:
            sequence.work.fails(self._no_memory(len(sequence.tokens)))
        else:
            insort(self.waiting, sequence, key=_rank)

    def cancel(self, sequence: CachedSequence) -> None:
        """Stop computing it, if it is not over; the tree keeps what was computed until its pages are needed."""
        self._remove(sequence)

    def drop_all(self, error: MadangError) -> None:
        """End everything with this error."""
        for sequence in [*self.running, *self.waiting]:
            self._fail(sequence, error)

    def step(self) -> None:
        """Compute once, if there is anything to compute."""
        shares = self.schedule()
        if shares:
            self._run(shares)

    def schedule(self) -> list[Share]:
        """Who computes what in the next step; all of one priority."""
        self._admit()
        if not self.running:
            return []
        ready = [s for s in self.running if s.priority == self.running[0].priority]
        for sequence in ready:
            self._change_ropes_if_long(sequence)
        shares = [Share(s, 1, []) for s in ready if s.is_decoding and self._make_room(s, 1)]
        reading = [s for s in ready if not s.is_decoding]
        if reading:
            shares += self._chunks(reading, len(shares))
        else:
            self._add_drafts(shares)
        held = set(self.running)  # making room for one may have put another out
        return [share for share in shares if share.sequence in held]

    # ---- who

    def _admit(self) -> None:
        """Let waiting sequences in while there is room for all of their tokens."""
        for sequence in list(self.waiting):
            while not self._has_room(sequence) and self._outranks_last(sequence):
                self._step_back(self.running[-1])
            if not self._has_room(sequence):
                break
            if self._is_computed_by_another(sequence):
                continue
            self.waiting.remove(sequence)
            insort(self.running, sequence, key=_rank)
            self._begin(sequence)

    def _has_room(self, sequence: CachedSequence) -> bool:
        """Alone it may always try; beside others only if it would not have to step back at once."""
        if not self.running:
            return True
        if len(self.running) >= self.limits.concurrency:
            return False
        promised = sum(self.cache.n_missing(s, len(s.tokens)) for s in self.running)
        return self.cache.n_missing(sequence, len(sequence.tokens) + 1) + promised <= self.cache.pool.n_obtainable

    def _outranks_last(self, sequence: CachedSequence) -> bool:
        return PRIORITIES.index(sequence.priority) < PRIORITIES.index(self.running[-1].priority)

    def _is_computed_by_another(self, sequence: CachedSequence) -> bool:
        """Whether pages that it begins with are being computed: there is no use in computing them twice."""
        other = sequence.waits_for
        if other is not None and other in self.running and other.n_computed < sequence.waits_until:
            return True
        sequence.waits_for = None
        for other in self.running:
            if other.n_left > 1 and other.priority == sequence.priority:
                n_common = _n_common(sequence, other)
                if other.n_computed < n_common:
                    sequence.waits_for, sequence.waits_until = other, n_common
                    return True
        return False

    def _begin(self, sequence: CachedSequence) -> None:
        self._change_ropes_if_long(sequence)
        self.cache.attach(sequence)
        if not sequence.is_begun:
            sequence.is_begun = True
            self._guarded(sequence, partial(sequence.work.begins, sequence.n_computed))

    def _change_ropes_if_long(self, sequence: CachedSequence) -> None:
        """Past the switch, all keys are rotated otherwise: start again, among the long ones."""
        if sequence.namespace.is_long or not self.limits.is_long(len(sequence.tokens)):
            return
        is_attached = sequence.node is not None
        self.cache.detach(sequence)
        sequence.namespace = sequence.namespace._replace(is_long=True)
        if is_attached:
            self.cache.attach(sequence)

    # ---- how much

    def _chunks(self, reading: list[CachedSequence], n_decoding: int) -> list[Share]:
        """Pieces of prompts: at least half of the step for who came first, the rest for those who need least."""
        left = self.pace.chunk_tokens(n_decoding, self.limits.chunk_tokens)
        rows_left = self.limits.rows - n_decoding
        first, *others = reading
        for_others = min(sum(s.n_left for s in others), left // 2)
        shares: list[Share] = []
        for sequence in [first, *sorted(others, key=lambda s: s.n_left)]:
            most = left - for_others if sequence is first else left
            share = _within_rows(Share(sequence, min(sequence.n_left, most), []), rows_left)
            if share.n_tokens > 0 and self._make_room(sequence, share.n_tokens):
                shares.append(share)
                left -= share.n_tokens
                rows_left -= share.n_rows
        return shares

    def _add_drafts(self, shares: list[Share]) -> None:
        """Behind the newest token those that must come, or guessed ones where they pay and do not contradict."""
        n_rows = len(shares)
        for i, (sequence, *_) in enumerate(shares):
            if not sequence.work.chooses or sequence not in self.running:
                continue
            forced = list(sequence.work.forced)[: self._most_drafts(sequence, n_rows)]
            drafts = self._guesses(sequence, n_rows)
            if drafts[: len(forced)] != forced:
                drafts = forced if self.cache.grow(sequence, 1 + len(forced)) else []
            shares[i] = Share(sequence, 1, drafts, min(len(forced), len(drafts)))
            n_rows += len(drafts)

    def _guesses(self, sequence: CachedSequence, n_rows: int) -> list[int]:
        if self._make_guesser is None:
            return []
        guesser = self._guessers.get(sequence) or self._guessers.setdefault(sequence, self._make_guesser())
        try:
            return self._drafts(sequence, guesser, n_rows)
        except Exception:  # a draft model may run out of memory; answers do not need it
            guesser.close()
            self._guessers[sequence] = Guessless()
            return []

    def _drafts(self, sequence: CachedSequence, guesser: Guesser, n_rows: int) -> list[int]:
        chances = guesser.chances(sequence.tokens)[: self._most_drafts(sequence, n_rows)]
        n = worthwhile_drafts(chances, n_rows, self.pace, guesser) if chances else 0
        return guesser.guess(sequence.tokens, n) if n > 0 and self.cache.grow(sequence, 1 + n) else []

    def _most_drafts(self, sequence: CachedSequence, n_rows: int) -> int:
        most = min(self.limits.rows - n_rows, MOST_DRAFTS)
        if self.limits.long_from is not None and not sequence.namespace.is_long:
            most = min(most, self.limits.long_from - len(sequence.tokens))
        return max(most, 0)

    # ---- a step

    def _run(self, shares: Sequence[Share]) -> None:
        """Compute, and hand out the rows. When a step fails, each share tries alone, so that only its cause ends."""
        started = time.perf_counter()
        try:
            compute(self.decoder, shares)
        except Exception as error:
            if len(shares) == 1:
                self._fail(shares[0].sequence, error)
            else:
                for share in shares:
                    self._run([share])
            return
        self._record(shares, time.perf_counter() - started)
        self._postprocess(shares)

    def _record(self, shares: Sequence[Share], seconds: float) -> None:
        n_prompt = sum(share.n_tokens for share in shares if not share.sequence.is_decoding)
        n_rows = sum(1 + len(share.drafts) for share in shares if share.sequence.is_decoding)
        self.pace.record(n_rows, n_prompt, seconds)

    def _postprocess(self, shares: Sequence[Share]) -> None:
        row = 0
        for share, n_rows in [(share, share.n_rows) for share in shares]:
            self._guarded(share.sequence, partial(self._take_rows, share, range(row, row + n_rows)))
            row += n_rows
        for share in shares:
            share.sequence.work.hand_over()

    def _take_rows(self, share: Share, rows: range) -> None:
        sequence, drafts = share.sequence, share.drafts
        sequence.n_computed += share.n_tokens
        chosen: list[int] = []
        for i, row in enumerate(rows):
            token = sequence.work.row(self.decoder, row)
            sequence.first_row += 1
            if token is not None:
                chosen.append(token)
                sequence.tokens.append(token)
            if sequence.work.is_done or (drafts and (i == len(drafts) or drafts[i] != token)):
                break
        if drafts:
            n_true = len(chosen) - 1  # the last one drawn is no guess, or a wrong one, or the end
            sequence.n_computed += n_true
            sequence.n_drafted += len(drafts) - share.n_forced
            sequence.n_accepted += max(n_true - share.n_forced, 0)
        if sequence in self._guessers:
            self._guessers[sequence].learn(chosen, len(drafts))
        self.cache.publish(sequence)
        if sequence.work.is_done or sequence.n_left == 0:
            sequence.work.ends(sequence, self.decoder)
            self._remove(sequence)

    # ---- pages

    def _make_room(self, sequence: CachedSequence, n_tokens: int) -> bool:
        """Pages for so many more tokens. False when it had to step back itself, or failed."""
        if sequence not in self.running:
            return False
        while not self.cache.grow(sequence, n_tokens):
            n_after = sequence.n_computed + n_tokens
            if len(self.running) == 1 or self.cache.most_pages(n_after) > self.cache.pool.limit_pages:
                self._fail(sequence, self._no_memory(n_after))
                return False
            last = self.running[-1]
            self._step_back(last)
            if last is sequence:
                return False
        return True

    def _step_back(self, sequence: CachedSequence) -> None:
        """Wait again, without pages."""
        self.n_step_backs += 1
        self.running.remove(sequence)
        self.cache.detach(sequence)
        insort(self.waiting, sequence, key=_rank)

    def _no_memory(self, n_tokens: int) -> NotEnoughMemory:
        page_bytes, pool = self.decoder.page_bytes, self.cache.pool
        return NotEnoughMemory(
            f"The cache for {n_tokens} tokens",
            self.cache.most_pages(n_tokens) * page_bytes,
            pool.limit_pages * page_bytes,
        )

    # ---- the end

    def _remove(self, sequence: CachedSequence, *, keep_tail: bool = True) -> None:
        """Forget a sequence, wherever it is."""
        if sequence in self.running:
            self.running.remove(sequence)
            self.cache.detach(sequence, keep_tail=keep_tail)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        guesser = self._guessers.pop(sequence, None)
        if guesser is not None:
            guesser.close()

    def _guarded(self, sequence: CachedSequence, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._fail(sequence, error)

    def _fail(self, sequence: CachedSequence, error: Exception) -> None:
        """End this sequence only; its last tokens may be the reason, so they are not kept."""
        self._remove(sequence, keep_tail=False)
        if not isinstance(error, MadangError):
            wrapped = EngineError(f"The engine failed at this request: {error}.")
            wrapped.__cause__ = error
            error = wrapped
        sequence.work.fails(error)


def _rank(sequence: CachedSequence) -> tuple[int, int]:
    return sequence.rank


def _within_rows(share: Share, most_rows: int) -> Share:
    """The share, shortened until it has at most so many rows."""
    return share._replace(n_tokens=share.n_tokens - max(share.n_rows - most_rows, 0))


def _n_common(sequence: CachedSequence, other: CachedSequence) -> int:
    """How many tokens both begin with, in whole pages that ``sequence`` could take over."""
    if sequence.namespace != other.namespace:
        return 0
    low, high = 0, min(sequence.first_row, len(sequence.tokens) - 1, len(other.tokens)) // PAGE_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        begin, end = low * PAGE_TOKENS, middle * PAGE_TOKENS
        if sequence.tokens[begin:end] == other.tokens[begin:end]:
            low = middle
        else:
            high = middle - 1
    return low * PAGE_TOKENS
