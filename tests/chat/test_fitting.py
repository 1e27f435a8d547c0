"""Conversations that are too long: which exchanges go, what is summarised, and what the ledger says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from madang.chat import Fitted, Wanted, drop_oldest, summarise
from madang.chat.fitting import digests
from madang.core import EngineInfo, Message, Request
from madang.core.errors import InvalidRequest
from madang.engines.echo import EchoEngine
from tests.server.doubles import done

SYSTEM = Message("system", "Be brief.")
LAST = Message("user", "the last question")


def conversation(n_exchanges: int, **options: Any) -> Request:
    messages = [SYSTEM]
    for i in range(n_exchanges):
        messages += [Message("user", f"question {i}"), Message("assistant", f"answer {i}")]
    return Request(messages=(*messages, LAST), **options)


class Characters:
    """Its tokens are characters."""

    def __init__(self, context_tokens: int) -> None:
        self.info = EngineInfo("test", "characters", context_tokens)

    def generate(self, request: Request) -> Any:
        raise NotImplementedError

    def count_tokens(self, request: Request) -> int:
        return sum(len(message.content) for message in request.messages)

    def close(self) -> None:
        pass


# ---- dropping


def test_what_fits_is_left_alone() -> None:
    request = conversation(2)
    assert drop_oldest(EchoEngine(context_tokens=200), request).request is request


@pytest.mark.parametrize("n_exchanges", [3, 4, 10, 33, 100])
def test_as_little_as_possible_is_dropped_and_whole_exchanges_only(n_exchanges: int) -> None:
    engine, request = EchoEngine(context_tokens=60), conversation(n_exchanges, max_tokens=10)
    fitted = drop_oldest(engine, request)
    kept = fitted.request.messages
    assert fitted.received_tokens == engine.count_tokens(request)
    assert fitted.dropped_messages == len(request.messages) - len(kept)
    assert engine.count_tokens(fitted.request) <= 50
    assert (kept[0], kept[-1]) == (SYSTEM, LAST)
    assert kept[1:] == request.messages[-len(kept) + 1 :]
    assert kept[1].role == "user"
    one_more = (SYSTEM, *request.messages[-len(kept) - 1 :])
    assert engine.count_tokens(Request(messages=one_more)) > 50


def test_the_last_exchange_stays_even_if_it_does_not_fit() -> None:
    assert drop_oldest(EchoEngine(context_tokens=8), conversation(5)).request.messages == (SYSTEM, LAST)


def test_a_raw_prompt_has_no_oldest_part() -> None:
    with pytest.raises(InvalidRequest):
        drop_oldest(EchoEngine(), Request(prompt="hello"))
    with pytest.raises(InvalidRequest):
        summarise(EchoEngine(), Request(prompt="hello"), {})


def test_the_ledger_counts_from_what_was_received() -> None:
    fitted = Fitted(conversation(1), received_tokens=57, dropped_messages=2, summarised_messages=3)
    ledger = fitted.ended(done()).ledger
    assert (ledger.received_tokens, ledger.kept_tokens, ledger.dropped_tokens) == (57, 7, 50)
    assert (ledger.dropped_messages, ledger.summarised_messages) == (2, 3)


# ---- summarising


def test_what_fits_needs_no_summary() -> None:
    request = conversation(2)
    fitted = summarise(Characters(1000), request, {})
    assert isinstance(fitted, Fitted)
    assert fitted.request is request


def test_old_exchanges_become_a_summary_in_the_users_words() -> None:
    engine, request = Characters(600), conversation(60, max_tokens=50)
    wanted = summarise(engine, request, {})
    assert isinstance(wanted, Wanted)
    assert engine.count_tokens(wanted.ask) + (wanted.ask.max_tokens or 0) <= 600
    assert wanted.ask.messages[0] == SYSTEM
    fitted = wanted.fitted("They talked.")
    kept = fitted.request.messages
    assert engine.count_tokens(fitted.request) <= 550
    assert (kept[0], kept[-1]) == (SYSTEM, LAST)
    assert kept[1].role == "user"
    assert "They talked." in kept[1].content
    assert kept[1].content.endswith(request.messages[-len(kept) + 1].content)
    assert fitted.dropped_messages + fitted.summarised_messages == len(request.messages) - len(kept)
    n_asked = len(wanted.ask.messages) - 2  # the system message and the question
    assert fitted.summarised_messages == n_asked


def test_a_summary_is_used_until_the_context_is_full_again() -> None:
    engine, request = Characters(600), conversation(30, max_tokens=50)
    known: dict[str, str] = {}
    n_made, n_messages = 0, 0
    for turn in range(40):
        fitted = summarise(engine, request, known)
        if isinstance(fitted, Wanted):
            n_made += 1
            known[fitted.digest] = "What was said."
            fitted = fitted.fitted("What was said.")
        assert engine.count_tokens(fitted.request) <= 550
        n_messages = fitted.summarised_messages + fitted.dropped_messages + len(fitted.request.messages)
        assert n_messages == len(request.messages)
        more = (Message("assistant", f"reply {turn}"), Message("user", f"then {turn}"))
        request = replace(request, messages=(*request.messages, *more))
    assert 1 < n_made < 10


def test_a_later_summary_begins_with_the_earlier_one() -> None:
    engine, request = Characters(600), conversation(29, max_tokens=50)
    first = summarise(engine, request, {})
    assert isinstance(first, Wanted)
    longer = replace(request, messages=(*request.messages, Message("assistant", "x" * 300), LAST, LAST))
    second = summarise(engine, longer, {first.digest: "THE FIRST SUMMARY"})
    assert isinstance(second, Wanted)
    assert "THE FIRST SUMMARY" in second.ask.messages[1].content
    assert second.summarised_messages >= first.summarised_messages


def test_another_conversation_does_not_get_the_summary() -> None:
    request = conversation(5)
    other = replace(request, messages=(SYSTEM, Message("user", "something else"), *request.messages[2:]))
    assert not set(digests(request)[1:]) & set(digests(other)[1:])
    same = replace(request, messages=request.messages[1:])  # other instructions, the same conversation
    assert digests(same) == digests(request)


def test_a_model_that_says_nothing_costs_the_old_exchanges() -> None:
    wanted = summarise(Characters(600), conversation(60, max_tokens=50), {})
    assert isinstance(wanted, Wanted)
    fitted = wanted.fitted(" \n")
    assert fitted.summarised_messages == 0
    assert fitted.dropped_messages == len(conversation(60).messages) - len(fitted.request.messages)
