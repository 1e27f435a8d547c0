"""Who computes what: driven step by step, without threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from madang import _core
from madang.core.errors import EngineError, NotEnoughMemory
from madang.core.request import Priority
from madang.native.pacing import Pace
from madang.native.pages import PAGE_TOKENS
from madang.native.scheduler import Limits, Scheduler
from madang.native.sequence import CachedSequence, Share
from madang.native.speculation import NgramGuesser
from tests.native.bare import BareModel, bare_decoder
from tests.parity.running import greedy

MODEL = BareModel(windows=(0, 20))


@dataclass
class Greedy:
    """Takes the likeliest token, ``wanted`` times; raises ``trouble`` at that token."""

    wanted: int = 5
    trouble: int | None = None
    tokens: list[int] = field(default_factory=list)
    n_cached: int | None = None
    error: Exception | None = None
    has_ended: bool = False
    n_told: int = 0  # tokens that had been taken when it was last told to hand over
    prophecy: list[int] = field(default_factory=list)  # of all of its tokens
    chooses = True

    @property
    def forced(self) -> list[int]:
        n = len(self.tokens)
        return self.prophecy[n : n + 4] if n % 2 else []

    @property
    def is_done(self) -> bool:
        return len(self.tokens) >= self.wanted

    def begins(self, n_cached: int) -> None:
        assert self.n_cached is None
        self.n_cached = n_cached

    def row(self, decoder: _core.Decoder, row: int) -> int:
        assert not self.is_done
        if len(self.tokens) == self.trouble:
            raise ZeroDivisionError("in a template")
        self.tokens.append(int(decoder.logits(row).argmax()))
        return self.tokens[-1]

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        self.has_ended = True

    def hand_over(self) -> None:
        self.n_told = len(self.tokens)

    def fails(self, error: Exception) -> None:
        assert not self.has_ended
        self.error = error


class FlatPace(Pace):
    """Every step takes the same time, so every guess is worth a try."""

    def step_s(self, n_rows: int) -> float:
        return 1.0


@pytest.fixture(scope="module")
def decoder() -> _core.Decoder:
    return bare_decoder(MODEL)


@pytest.fixture
def make(decoder: _core.Decoder) -> Iterator[Callable[..., Scheduler]]:
    """Schedulers over one decoder; in the end none of them holds a page."""
    made: list[Scheduler] = []

    def make_scheduler(
        *, n_pages: int = 200, guesses: bool = False, over: _core.Decoder = decoder, **limits: Any
    ) -> Scheduler:
        limits = {"chunk_tokens": 32, "concurrency": 8, "vocab_size": MODEL.vocab_size, **limits}
        cache_bytes = n_pages * over.page_bytes
        make_guesser, pace = (NgramGuesser, FlatPace()) if guesses else (None, None)
        scheduler = Scheduler(over, Limits(cache_bytes=cache_bytes, **limits), make_guesser, pace)
        made.append(scheduler)
        return scheduler

    yield make_scheduler
    for scheduler in made:
        for sequence in [*scheduler.running, *scheduler.waiting]:
            scheduler.cancel(sequence)
        pool, tree = scheduler.cache.pool, scheduler.cache.tree
        assert pool.n_used == pool.n_idle == len(tree)
        tree.clear()
        assert pool.n_used == 0


def text(n: int, seed: int = 0) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, MODEL.vocab_size, n).tolist()
    return tokens


def add(scheduler: Scheduler, tokens: list[int], work: Greedy | None = None, priority: Priority = "chat") -> Greedy:
    work = work or Greedy()
    scheduler.add(CachedSequence(list(tokens), len(tokens) - 1, work, priority))
    return work


def run(scheduler: Scheduler, most: int = 3000) -> list[list[Share]]:
    """Until nothing is left; returns who had a share in each step."""
    steps: list[list[Share]] = []
    while scheduler.is_busy:
        shares = scheduler.schedule()
        steps.append(list(shares))
        if shares:
            scheduler._run(shares)
        assert len(steps) < most
    return steps


def expected(prompt: list[int], n: int = 5) -> list[int]:
    return greedy(bare_decoder(MODEL), prompt, n)


def test_many_at_once_say_what_each_says_alone(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    prompts = [text(5 + 7 * i, i) for i in range(12)]
    works = [add(scheduler, prompt) for prompt in prompts]
    steps = run(scheduler)
    assert [work.tokens for work in works] == [expected(prompt) for prompt in prompts]
    assert max(len(shares) for shares in steps) > 1
    assert all(len(shares) <= 8 for shares in steps)


def test_those_who_decode_have_a_share_in_every_step(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    chat = add(scheduler, text(10), Greedy(100))
    scheduler.step()
    long = add(scheduler, text(500, 1))
    n_before = len(chat.tokens)
    n_steps = 0
    while not long.tokens:
        scheduler.step()
        n_steps += 1
    assert n_steps > 2
    assert len(chat.tokens) == n_before + n_steps


def test_nobody_is_woken_before_all_rows_of_a_step_are_taken(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    works = [Greedy(4) for _ in range(6)]
    rows_taken_when_told: list[list[int]] = []

    class Listener(Greedy):
        def hand_over(self) -> None:
            super().hand_over()
            rows_taken_when_told.append([len(work.tokens) for work in works])

    add(scheduler, text(3), Listener(4))
    for number, work in enumerate(works):
        add(scheduler, text(3, 1 + number), work)
    run(scheduler)
    assert all(len(set(counts)) == 1 for counts in rows_taken_when_told)
    assert [counts[0] for counts in rows_taken_when_told if counts[0]] == [1, 2, 3, 4]
    assert all(work.n_told == 4 and work.has_ended for work in works)


def test_a_short_prompt_does_not_wait_behind_a_long_one(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    long, short = add(scheduler, text(600)), add(scheduler, text(12, 1))
    for _ in range(2):
        scheduler.step()
    assert short.tokens
    assert not long.tokens
    run(scheduler)
    assert long.tokens == expected(text(600))


@pytest.mark.parametrize("lengths", [(600, 12), (600, 300), (10, 500), (20, 5, 200), (600, 2, 2, 2)])
def test_the_whole_of_a_step_is_used(make: Callable[..., Scheduler], lengths: tuple[int, ...]) -> None:
    scheduler = make(chunk_tokens=64)
    works = [add(scheduler, text(n, seed)) for seed, n in enumerate(lengths)]
    shares = scheduler.schedule()
    assert sum(share.n_tokens for share in shares) == 64
    scheduler._run(shares)
    run(scheduler)
    assert [work.tokens for work in works] == [expected(text(n, seed)) for seed, n in enumerate(lengths)]


def test_background_work_waits_for_chats(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    background = add(scheduler, text(40), Greedy(20), "background")
    scheduler.step()
    scheduler.step()
    n_before = len(background.tokens)
    chats = [add(scheduler, text(20, seed), Greedy(4)) for seed in (1, 2)]
    while not all(chat.has_ended for chat in chats):
        scheduler.step()
        assert len(background.tokens) == n_before
    assert n_before < 20
    run(scheduler)
    assert background.tokens == expected(text(40), 20)


def test_a_chat_takes_the_place_of_background_work(make: Callable[..., Scheduler]) -> None:
    scheduler = make(concurrency=2)
    works = [add(scheduler, text(40, seed), Greedy(9), "background") for seed in (1, 2)]
    scheduler.step()
    chat = add(scheduler, text(20))
    scheduler.step()
    assert chat.n_cached is not None
    run(scheduler)
    assert [work.tokens for work in works] == [expected(text(40, seed), 9) for seed in (1, 2)]


@pytest.mark.parametrize("n_steps", [0, 1, 3, 40])
def test_cancelling_gives_the_pages_back(make: Callable[..., Scheduler], n_steps: int) -> None:
    scheduler = make()
    work = Greedy(100)
    sequence = CachedSequence(text(100), 99, work)
    scheduler.add(sequence)
    for _ in range(n_steps):
        scheduler.step()
    for _ in range(2):
        scheduler.cancel(sequence)
    assert not scheduler.is_busy
    assert not work.has_ended
    assert scheduler.cache.pool.n_idle == scheduler.cache.pool.n_used
    again = add(scheduler, text(100))
    run(scheduler)
    assert again.tokens == expected(text(100))
    assert again.n_cached == min(32 * n_steps, 99)


def test_what_another_computes_is_waited_for(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    common = text(200)
    works = [add(scheduler, common + text(5, seed)) for seed in range(4)]
    n_read = sum(share.n_tokens for shares in run(scheduler) for share in shares)
    assert [work.tokens for work in works] == [expected(common + text(5, seed)) for seed in range(4)]
    assert n_read < 205 + 3 * (5 + PAGE_TOKENS) + 4 * 5
    assert [work.n_cached for work in works[1:]] == [200 // PAGE_TOKENS * PAGE_TOKENS] * 3


@pytest.mark.parametrize("n_pages", [5, 6, 9, 14])
def test_with_few_pages_some_step_back_and_say_the_same(make: Callable[..., Scheduler], n_pages: int) -> None:
    scheduler = make(n_pages=n_pages)
    prompts = [text(20 + i, i) for i in range(5)]
    works = [add(scheduler, prompt, Greedy(40)) for prompt in prompts]
    steps = run(scheduler)
    assert [work.tokens for work in works] == [expected(prompt, 40) for prompt in prompts]
    assert scheduler.cache.pool.n_used <= n_pages
    assert steps


def test_the_latest_of_the_least_important_steps_back(make: Callable[..., Scheduler]) -> None:
    scheduler = make(n_pages=12)
    first, second = add(scheduler, text(60), Greedy(60)), add(scheduler, text(60, 1), Greedy(60))
    while not first.has_ended:
        scheduler.step()
    assert not second.has_ended
    run(scheduler)
    assert (first.tokens, second.tokens) == (expected(text(60), 60), expected(text(60, 1), 60))


def test_what_can_never_fit_is_refused_and_the_rest_goes_on(make: Callable[..., Scheduler]) -> None:
    scheduler = make(n_pages=4)
    other = add(scheduler, text(10))
    too_long = add(scheduler, text(65))
    growing = add(scheduler, text(40, 1), Greedy(40))
    run(scheduler)
    for work in (too_long, growing):
        assert isinstance(work.error, NotEnoughMemory)
        assert work.error.needed_bytes > (work.error.available_bytes or 0)
    assert growing.tokens == expected(text(40, 1), 40)[: len(growing.tokens)]
    assert len(growing.tokens) == 4 * PAGE_TOKENS - 40 + 1
    assert other.tokens == expected(text(10))


@pytest.mark.parametrize("trouble", [0, 3])
def test_an_exception_ends_only_the_request_that_caused_it(make: Callable[..., Scheduler], trouble: int) -> None:
    scheduler = make()
    good, bad = add(scheduler, text(20)), add(scheduler, text(20, 1), Greedy(5, trouble))
    run(scheduler)
    assert isinstance(bad.error, EngineError)
    assert isinstance(bad.error.__cause__, ZeroDivisionError)
    assert len(bad.tokens) == trouble
    assert good.tokens == expected(text(20))


def test_a_step_that_fails_ends_only_the_sequence_at_fault(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    works = [add(scheduler, text(20, seed)) for seed in range(3)]
    bad = add(scheduler, [1, 2, MODEL.vocab_size, 3])
    run(scheduler)
    assert isinstance(bad.error, EngineError)
    assert "vocabulary" in bad.error.message
    assert [work.tokens for work in works] == [expected(text(20, seed)) for seed in range(3)]


def test_everything_can_be_dropped(make: Callable[..., Scheduler]) -> None:
    scheduler = make(concurrency=2)
    works = [add(scheduler, text(20, seed)) for seed in range(4)]
    scheduler.step()
    error = EngineError("closed")
    scheduler.drop_all(error)
    assert all(work.error is error for work in works)
    assert not scheduler.is_busy


def test_only_reading_a_prompt(make: Callable[..., Scheduler]) -> None:
    scheduler = make()
    work = Greedy(0)
    work.wanted = 1
    scheduler.add(CachedSequence(text(70), 70, work))
    run(scheduler)
    assert work.has_ended
    assert work.tokens == []
    assert add(scheduler, [*text(70), 1]).n_cached is None
    run(scheduler)


@pytest.mark.parametrize("guesses", [False, True])
def test_a_sequence_that_becomes_long_is_rotated_otherwise_from_its_beginning(
    make: Callable[..., Scheduler], guesses: bool
) -> None:
    far = _core.Rope(True, [0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001], 1.1)
    shapes = BareModel(edits={"long_rope": far}), BareModel(), BareModel(edits={"ropes": [far]})
    both, short, long = map(bare_decoder, shapes)
    scheduler = make(over=both, long_from=40, guesses=guesses)
    prompts = [(text(9) * 4)[:n] for n in (30, 36, 40)] + [text(45), text(90)]
    works = [add(scheduler, prompt, Greedy(30)) for prompt in prompts]
    run(scheduler)
    for prompt, work in zip(prompts, works, strict=True):
        n_short = max(40 - len(prompt) + 1, 0)  # chosen after at most 40 tokens
        answer = greedy(short, prompt, n_short) if n_short else []
        answer += greedy(long, prompt + answer, 30 - n_short)
        assert work.tokens == answer
    again = add(scheduler, prompts[-1])
    run(scheduler)
    assert again.n_cached == len(prompts[-1]) - 1
    assert again.tokens == works[-1].tokens[:5]


def test_guessing_changes_nothing_but_the_number_of_steps(make: Callable[..., Scheduler]) -> None:
    loop = text(9) * 8
    counts = []
    for guesses in (False, True):
        scheduler = make(guesses=guesses)
        works = [add(scheduler, loop[:n], Greedy(60)) for n in (72, 50)]
        counts.append(len(run(scheduler)))
        assert [work.tokens for work in works] == [expected(loop[:n], 60) for n in (72, 50)]
    assert counts[1] < counts[0]


def test_a_guesser_that_fails_is_not_asked_again(make: Callable[..., Scheduler], decoder: _core.Decoder) -> None:
    asked: list[int] = []

    class Broken(NgramGuesser):
        def chances(self, tokens: Any) -> list[float]:
            asked.append(len(tokens))
            raise MemoryError

    limits = Limits(chunk_tokens=32, concurrency=8, cache_bytes=2**20, vocab_size=MODEL.vocab_size)
    scheduler = Scheduler(decoder, limits, Broken)
    works = [add(scheduler, text(20, seed)) for seed in range(2)]
    run(scheduler)
    assert [work.tokens for work in works] == [expected(text(20, seed)) for seed in range(2)]
    assert len(asked) == 2


# ---- tokens that must come


@pytest.mark.parametrize("guesses", [False, True])
def test_what_must_come_is_computed_ahead_in_one_step(make: Callable[..., Scheduler], guesses: bool) -> None:
    prompt = text(9)
    tokens = expected(prompt, 21)
    scheduler = make(guesses=guesses)
    work = add(scheduler, prompt, Greedy(21, prophecy=tokens))
    (sequence,) = scheduler.waiting
    steps = run(scheduler)
    assert work.tokens == tokens
    n_steps = 8  # one token, then by turns five (the newest and four that must come) and one
    assert len(steps) <= n_steps
    if not guesses:
        assert len(steps) == n_steps
        assert (sequence.n_drafted, sequence.n_accepted) == (0, 0)  # nothing was guessed


@pytest.mark.parametrize("guesses", [False, True])
def test_a_wrong_word_of_what_must_come_changes_nothing(make: Callable[..., Scheduler], guesses: bool) -> None:
    prompt = text(9)
    tokens = expected(prompt, 30)
    wrong = [token if i % 5 else (token + 1) % MODEL.vocab_size for i, token in enumerate(tokens)]
    scheduler = make(guesses=guesses)
    other = add(scheduler, text(20, 3), Greedy(30))
    work = add(scheduler, prompt, Greedy(30, prophecy=wrong))
    run(scheduler)
    assert (work.tokens, other.tokens) == (tokens, expected(text(20, 3), 30))


def test_what_must_come_waits_where_there_is_no_room(make: Callable[..., Scheduler]) -> None:
    prompt = text(30)
    tokens = expected(prompt, 17)
    work = add(scheduler := make(n_pages=3), prompt, Greedy(17, prophecy=[*tokens, 0, 0, 0, 0]))
    run(scheduler)
    assert (work.tokens, work.error) == (tokens, None)
