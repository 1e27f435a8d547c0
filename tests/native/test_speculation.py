"""Guesses from the text: where they come from, what they promise, when they are worth a row."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core import Completion, Request, SamplingParams, collect
from madang.core.errors import InvalidRequest
from madang.native import NativeEngine, load
from madang.native.pacing import Pace
from madang.native.speculation import (
    LONGEST_MATCH,
    MOST_DRAFTS,
    SHORTEST_MATCH,
    HitRates,
    NgramGuesser,
    worthwhile_drafts,
)
from tests.native.conftest import OpenEngine, as_files, as_plan
from tests.native.test_engine import PRINTABLE

some_tokens = st.lists(st.integers(0, 2), max_size=60)


def longest_earlier_match(tokens: list[int]) -> int:
    """By brute force: the longest end of the text, up to a limit, that stands in it earlier with something after it."""
    for length in range(min(LONGEST_MATCH, len(tokens) - 1), SHORTEST_MATCH - 1, -1):
        end = tokens[-length:]
        if any(tokens[i : i + length] == end for i in range(len(tokens) - length)):
            return length
    return 0


@given(some_tokens, some_tokens)
def test_the_guess_goes_on_after_a_match_of_the_end(before: list[int], after: list[int]) -> None:
    guesser = NgramGuesser()
    for end in range(len(before), len(before) + len(after) + 1):  # the index grows with the text
        tokens = (before + after)[:end]
        chances = guesser.chances(tokens)
        guess = guesser.guess(tokens, MOST_DRAFTS)
        assert len(chances) == len(guess)
        assert bool(guess) == bool(longest_earlier_match(tokens))
        for n in range(1, len(guess) + 1 if guess else 0):
            # Whatever is guessed goes on as the text did somewhere.
            ending = tokens[-SHORTEST_MATCH:] + guess[:n]
            whole = tokens + guess[: n - 1]
            window = ending[-SHORTEST_MATCH - 1 :]
            assert any(whole[i : i + len(window)] == window for i in range(len(whole)))


def test_the_place_with_the_longest_match_wins() -> None:
    text = [9, 1, 2, 3, 7, 7, 8, 1, 2, 3, 5, 5, 9, 1, 2, 3]
    guesser = NgramGuesser()
    guesser.chances(text)
    assert guesser.guess(text, 3) == [7, 7, 8]


def test_a_loop_is_guessed_to_go_on() -> None:
    text = [1, 2, 3, 4] * 4
    guesser = NgramGuesser()
    assert len(guesser.chances(text)) == MOST_DRAFTS
    assert guesser.guess(text, 9) == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_chances_follow_what_comes_true() -> None:
    rates = HitRates()
    first = rates.rate(5)
    for _ in range(40):
        rates.count(5, hit=True)
    assert rates.rate(5) > 0.9 > first
    for _ in range(80):
        rates.count(5, hit=False)
    assert rates.rate(5) < 0.1
    assert rates.rate(20) == HitRates().rate(20)


def test_a_guess_that_was_not_checked_is_counted_as_well() -> None:
    text = [1, 2, 3, 4] * 4
    guesser = NgramGuesser()
    before = guesser.chances(text)[0]
    guesser.learn([9], 0)
    assert guesser.chances(text)[0] < before


@pytest.mark.parametrize(
    ("row_s", "chances", "n_drafts"),
    [(0.0, [0.5] * 5, 5), (0.3, [0.2] * 5, 0), (0.3, [0.9, 0.9, 0.1, 0.1], 2), (1.0, [1.0] * 4, 0), (0.1, [], 0)],
)
def test_rows_are_bought_while_they_pay(row_s: float, chances: list[float], n_drafts: int) -> None:
    pace = Pace()
    for n_rows in range(1, 9):
        pace.record(n_rows, 0, 1.0 + row_s * (n_rows - 1))
    assert worthwhile_drafts(chances, 1, pace, NgramGuesser()) == n_drafts


def test_nothing_is_bought_before_the_price_is_known() -> None:
    assert worthwhile_drafts([1.0], 1, Pace(), NgramGuesser()) == 0


# ---- on an engine: the tiny model falls into loops, so guesses come true


def answer(open_engine: OpenEngine, sampling: SamplingParams, speculation: str, n_tokens: int = 120) -> Completion:
    engine = open_engine(context_tokens=512, speculation=speculation)
    return collect(engine.generate(Request(prompt="la-la-la-la-la-la", max_tokens=n_tokens, sampling=sampling)))


@pytest.mark.parametrize("kind", ["ngram", "draft"])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0, logit_bias=PRINTABLE, logprobs=1),
        SamplingParams(temperature=0.3, seed=1, logit_bias=PRINTABLE, logprobs=1),
        SamplingParams(temperature=0, repeat_penalty=1.1, repeat_last_n=-1, logit_bias=PRINTABLE, logprobs=1),
    ],
    ids=["greedy", "sampled", "penalties"],
)
def test_an_answer_is_the_same_with_guesses(
    open_engine: OpenEngine, tiny_gguf: object, kind: str, sampling: SamplingParams
) -> None:
    without = answer(open_engine, sampling, "off")
    speculation = f"draft:{tiny_gguf}" if kind == "draft" else kind
    guessed = answer(open_engine, sampling, speculation)
    assert (guessed.text, guessed.logprobs) == (without.text, without.logprobs)
    timings = guessed.done.timings
    assert without.done.timings.drafted_tokens == 0
    assert 0 <= timings.accepted_tokens <= timings.drafted_tokens


def test_its_own_twin_guesses_right(open_engine: OpenEngine, tiny_gguf: object) -> None:
    sampling = SamplingParams(temperature=0)
    timings = answer(open_engine, sampling, f"draft:{tiny_gguf}").done.timings
    assert timings.accepted_tokens >= timings.drafted_tokens - MOST_DRAFTS  # but for what the end cuts off


def test_a_draft_model_may_be_a_folder(tmp_path: Path) -> None:
    from tests.native.tiny import MODEL
    from tests.parity.checkpoints import write_checkpoint, write_folder

    folder = tmp_path / "tiny"
    write_folder(write_checkpoint(MODEL, tmp_path / "tiny.gguf"), folder)
    engine = load(as_files(folder, format="huggingface"), as_plan(speculation=f"draft:{folder}"))
    assert isinstance(engine, NativeEngine)
    with closing(engine):
        request = Request(prompt="la-la-la-la", max_tokens=60, sampling=SamplingParams(temperature=0))
        assert collect(engine.generate(request)).done.timings.accepted_tokens > 0


def test_a_draft_model_of_another_vocabulary_is_refused(
    open_engine: OpenEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.parity.checkpoints import BYTE_TOKENS, TinyModel, write_checkpoint

    other = TinyModel("other", vocab_size=BYTE_TOKENS + 5)
    path = write_checkpoint(other, tmp_path_factory.mktemp("other") / "other.gguf").path
    with pytest.raises(InvalidRequest, match="another vocabulary"):
        open_engine(speculation=f"draft:{path}")
