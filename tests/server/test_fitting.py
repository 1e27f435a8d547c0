"""Conversations that are too long: refused, unless the client asks to have the oldest exchanges dropped."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import Message, Request
from madang.core.errors import InvalidRequest
from madang.engines.echo import EchoEngine
from madang.server.fitting import drop_oldest

SYSTEM = Message("system", "Be brief.")
LAST = Message("user", "the last question")


def conversation(n_exchanges: int, **options: Any) -> Request:
    messages = [SYSTEM]
    for i in range(n_exchanges):
        messages += [Message("user", f"question {i}"), Message("assistant", f"answer {i}")]
    return Request(messages=(*messages, LAST), **options)


def test_what_fits_is_left_alone() -> None:
    request = conversation(2)
    assert drop_oldest(EchoEngine(context_tokens=200), request).request is request


@pytest.mark.parametrize("n_exchanges", [3, 4, 10, 33, 100])
def test_as_little_as_possible_is_dropped_and_whole_exchanges_only(n_exchanges: int) -> None:
    engine, request = EchoEngine(context_tokens=60), conversation(n_exchanges, max_tokens=10)
    fitted = drop_oldest(engine, request)
    kept = fitted.request.messages
    assert fitted.received_tokens == engine.count_tokens(request)
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


LONG = [
    *({"role": role, "content": "x" * 60} for _ in range(10) for role in ("user", "assistant")),
    {"role": "user", "content": "hello"},
]


@pytest.mark.parametrize(
    ("path", "body", "asks"),
    [
        ("/v1/chat/completions", {"messages": LONG, "max_tokens": 20}, {"context_overflow": "drop_oldest"}),
        ("/v1/messages", {"messages": LONG, "max_tokens": 20}, {"context_overflow": "drop_oldest"}),
        ("/v1/responses", {"input": LONG, "max_output_tokens": 20}, {"truncation": "auto"}),
    ],
)
def test_only_who_asks_gets_a_shorter_conversation_and_is_told(
    client: TestClient, path: str, body: dict[str, Any], asks: dict[str, str]
) -> None:
    assert client.post(path, json={"model": "echo", **body}).status_code == 400
    answer = client.post(path, json={"model": "echo", **body, **asks}).json()
    ledger = answer["madang"]
    assert "hello" in str(answer)
    assert ledger["dropped_tokens"] > 0
    assert ledger["received_tokens"] == ledger["kept_tokens"] + ledger["dropped_tokens"] > 200
    stream = client.post(path, json={"model": "echo", **body, **asks, "stream": True}).text
    assert f'"dropped_tokens":{ledger["dropped_tokens"]}' in stream
