"""Prompts are answered by what an engine can do, and one bad prompt spoils no other."""

from __future__ import annotations

import pytest

from madang.core import Request
from madang.core.errors import InvalidRequest
from madang.engines.echo import EchoEngine
from madang.evaluation.asking import (
    ask,
    ask_all,
    prompt_document,
    prompt_of,
    read_rolling,
    response_document,
    response_of,
)
from madang.evaluation.tasks import Prompt, Response
from madang.evaluation.tasks.answers import chat_request, raw_request
from tests.evaluation.engines import MOST_CHARACTERS, ByteLogits, LengthScorer


def choice(context: str = "Q", *texts: str) -> Prompt:
    return Prompt(Request(prompt=context), texts or (" a", " bb"))


def test_every_kind_is_answered_in_one_go() -> None:
    found = ask_all(LengthScorer(), [Prompt(raw_request("say it", 8)), choice(), Prompt(chat_request("hello", 8))])
    assert found[0].text == "say it"
    assert [own.n_tokens for own in found[1].scored] == [2, 3]
    assert found[2].text == "hello"


def test_a_prompt_that_is_too_long_is_its_own_problem() -> None:
    prompts = [choice() for _ in range(7)]
    prompts[3] = choice("x" * (MOST_CHARACTERS + 1))
    found = ask_all(LengthScorer(), prompts)
    assert [own.problem is not None for own in found] == [number == 3 for number in range(7)]
    long_answer = ask_all(EchoEngine(context_tokens=8), [Prompt(raw_request("x" * 99, 8)), Prompt(raw_request("y", 8))])
    assert "99" not in long_answer[1].text and long_answer[1].text == "y"
    assert long_answer[0].problem is not None


def test_an_engine_without_likelihoods_says_so() -> None:
    for prompt in (choice(), Prompt(Request(prompt=""), ("text",), is_rolling=True)):
        with pytest.raises(InvalidRequest, match="does not tell how likely"):
            ask_all(EchoEngine(), [prompt])


def test_logits_are_enough_to_score_choices() -> None:
    engine = ByteLogits()
    (found,) = ask_all(engine, [choice("Q", " a", " bb")])
    expected = [engine.nats("Q" + text) for text in (" a", " bb")]
    assert [-own.logprob for own in found.scored] == pytest.approx(expected)


@pytest.mark.parametrize("n_ctx", [100, 20, 7, 2])
def test_each_token_of_a_text_counts_once_whatever_the_context(n_ctx: int) -> None:
    engine = ByteLogits(n_ctx)
    text = "A text that is longer than some contexts."
    found = read_rolling(engine, text, "", n_ctx)
    assert found.n_tokens == len(text)
    assert engine.longest == min(n_ctx, len(text))
    assert -found.logprob == pytest.approx(engine.nats("\n" + text))
    engine = ByteLogits(max(n_ctx, 3))
    with_prefix = read_rolling(engine, text, "ab", max(n_ctx, 3))
    assert -with_prefix.logprob == pytest.approx(engine.nats("b" + text))
    with pytest.raises(InvalidRequest, match="empty"):
        read_rolling(engine, "", "", n_ctx)


def test_answers_come_as_they_are_done() -> None:
    stream = ask(EchoEngine(), [Prompt(raw_request(str(number), 4)) for number in range(5)])
    assert dict(stream)[4] == Response(text="4", tokens=1)


def test_documents_hold_everything() -> None:
    for prompt in (choice(), Prompt(raw_request("x", 5, ("\n",))), Prompt(chat_request("y", 6))):
        assert prompt_of(prompt_document(prompt)) == prompt
    (response,) = ask_all(LengthScorer(), [choice()])
    assert response_of(response_document(response)) == response
