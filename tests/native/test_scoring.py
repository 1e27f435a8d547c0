"""Scores and logits are those of the model, whatever is shared while they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from madang import _core
from madang.core import LogitSource, Message, Request, SamplingParams, Scorer, collect
from madang.core.errors import ContextLengthExceeded, InvalidRequest
from madang.native import NativeEngine
from tests.native.conftest import CONTEXT_TOKENS, OpenEngine
from tests.native.test_engine import HOT, ask

HEADER = "2+2=4;3+3=6;4+4=8;"
QUESTIONS = [f"{HEADER}{n}+{n}=" for n in range(5, 12)]
OPTIONS = ["1", "10", "22", "a longer answer", "10 and more"]


def logits_of(engine: NativeEngine, text: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate(list(engine.logits(engine.tokenize(text))))


def log_softmax(row: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    row = row.astype(np.float64)
    shifted = row - row.max()
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum())  # type: ignore[type-arg]
    return result


@pytest.fixture
def engine(open_engine: OpenEngine) -> NativeEngine:
    return open_engine()


def test_it_is_a_scorer_and_a_source_of_logits(engine: NativeEngine) -> None:
    assert isinstance(engine, Scorer)
    assert isinstance(engine, LogitSource)


@pytest.mark.parametrize("question", QUESTIONS[:2])
def test_a_score_is_the_sum_of_log_probabilities(engine: NativeEngine, question: str) -> None:
    n_context = len(engine.tokenize(question))
    for option, scored in zip(OPTIONS, engine.score(Request(prompt=question), OPTIONS), strict=True):
        tokens = engine.tokenize(question + option)
        logits = logits_of(engine, question + option)
        rows = [(log_softmax(logits[i - 1]), tokens[i]) for i in range(n_context, len(tokens))]
        assert scored.n_tokens == len(rows)
        assert scored.logprob == pytest.approx(sum(row[token] for row, token in rows), abs=1e-5)
        assert scored.is_greedy == all(row.argmax() == token for row, token in rows)


def test_together_or_one_by_one_the_bits_are_the_same(open_engine: OpenEngine) -> None:
    together = list(open_engine(chunk=7).score_many((Request(prompt=text), OPTIONS) for text in QUESTIONS))
    for question, scores in zip(QUESTIONS, together, strict=True):
        for option, score in zip(OPTIONS, scores, strict=True):
            assert open_engine().score(Request(prompt=question), [option]) == [score]


def test_a_token_that_was_drawn_has_the_same_log_probability_when_scored(engine: NativeEngine) -> None:
    completion = ask(engine, "tell-me", 9)
    scores = [
        engine.score(Request(prompt="tell-me" + completion.text[:i]), [letter])[0]
        for i, letter in enumerate(completion.text)
    ]
    assert [score.logprob for score in scores] == [token.logprob for token in completion.logprobs]
    assert [score.is_greedy for score in scores] == [token.token_id == token.top[0][0] for token in completion.logprobs]


def test_what_items_share_is_computed_once(open_engine: OpenEngine) -> None:
    engine = open_engine(n_pages=100)
    list(engine.score_many((Request(prompt=text), OPTIONS) for text in QUESTIONS))
    done = collect(engine.generate(Request(prompt=QUESTIONS[3], max_tokens=1, sampling=HOT))).done
    assert done.usage.cached_tokens == done.usage.prompt_tokens - 1


def test_items_are_taken_as_results_are_read(engine: NativeEngine) -> None:
    taken: list[int] = []

    def items():  # type: ignore[no-untyped-def]
        for number in range(1000):
            taken.append(number)
            yield Request(prompt=f"{number}"), ["a", "b"]

    results = engine.score_many(items())
    next(results)
    assert len(taken) < 100
    results.close()  # type: ignore[attr-defined]
    assert ask(engine, "and-then").text


def test_chats_are_scored_after_the_template(engine: NativeEngine) -> None:
    request = Request(messages=(Message("user", "yes or no"),))
    yes, no = engine.score(request, ["yes", "no"])
    assert (yes.n_tokens, no.n_tokens) == (3, 2)
    (spelled,) = engine.score(request, ["</s>"])
    assert spelled.n_tokens > 1  # a control token that is spelled out is text


@pytest.mark.parametrize("options", [[""], ["a", ""]])
def test_an_empty_continuation_is_refused(engine: NativeEngine, options: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        engine.score(Request(prompt="x"), options)
    assert engine.score(Request(prompt="x"), []) == []


def test_the_context_is_a_limit_for_scores_and_logits(engine: NativeEngine) -> None:
    for call in (
        lambda: engine.score(Request(prompt="x" * CONTEXT_TOKENS), ["y"]),
        lambda: next(engine.logits([1] * (CONTEXT_TOKENS + 1))),
    ):
        with pytest.raises(ContextLengthExceeded):
            call()
    with pytest.raises(InvalidRequest, match="empty"):
        next(engine.logits([]))


@pytest.mark.parametrize("chunk", [5, 64, 500])
def test_logits_come_in_order_and_in_pieces(open_engine: OpenEngine, chunk: int) -> None:
    text = "some text of more than one hundred letters, so that its logits come in several pieces, one after another"
    pieces = list(open_engine(chunk=chunk).logits(open_engine().tokenize(text)))
    assert len(pieces) > 1
    whole = np.concatenate(pieces)
    assert whole.dtype == np.float32
    assert len(whole) == len(open_engine().tokenize(text))
    assert np.array_equal(whole, logits_of(open_engine(), text))
    assert np.array_equal(whole[:40], logits_of(open_engine(), text)[:40])


def test_log_probabilities_of_the_core() -> None:
    from tests.native.bare import BareModel, bare_decoder
    from tests.parity.running import read

    decoder = bare_decoder(BareModel())
    logits = read(decoder, [3, 1, 4])
    found, best = decoder.log_probabilities(2, np.arange(40, dtype=np.int32))
    np.testing.assert_allclose(found, log_softmax(logits[2]), atol=1e-6)
    assert best == logits[2].argmax()
    options = _core.SamplerOptions()
    options.temperature = 0
    choice = _core.Sampler(options).sample(decoder, 2, 5)
    assert choice.logprob == found[choice.token]
    assert choice.alternatives == [(token, found[token]) for token, _ in choice.alternatives]
    for tokens in ([40], [-1]):
        with pytest.raises(ValueError, match="vocabulary"):
            decoder.log_probabilities(0, np.array(tokens, np.int32))
    with pytest.raises(ValueError, match="no such row"):
        decoder.log_probabilities(3, np.array([1], np.int32))


def test_sampling_params_are_no_matter(engine: NativeEngine) -> None:
    cold = Request(prompt="x", sampling=SamplingParams(temperature=0))
    hot = Request(prompt="x", sampling=SamplingParams(temperature=9))
    assert engine.score(cold, ["abc"]) == engine.score(hot, ["abc"])
