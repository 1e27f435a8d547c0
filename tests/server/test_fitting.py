"""Conversations that are too long: refused, unless the client asks to have them shortened or summarised."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import TextDelta
from tests.server.conftest import Script
from tests.server.doubles import done

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


def test_a_summary_is_made_by_the_same_model_and_used_again(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("in short"), done())  # its tokens are characters, and 100 fit
    turns = [{"role": role, "content": "x" * 18} for _ in range(2) for role in ("user", "assistant")]
    question = {"role": "user", "content": "and now?"}
    body = {"model": "scripted", "messages": [*turns, question], "max_tokens": 25, "context_overflow": "summarise"}
    ledger = client.post("/v1/chat/completions", json=body).json()["madang"]
    asked, answered = engine.requests
    assert "Summarise" in asked.messages[-1].content
    assert "in short" in answered.messages[0].content
    assert answered.messages[-1].content.endswith("and now?")
    assert ledger["summarised_messages"] + ledger["dropped_messages"] == 5 - len(answered.messages)
    assert ledger["received_tokens"] == 80
    again = client.post("/v1/chat/completions", json=body).json()["madang"]
    assert len(engine.requests) == 3
    assert engine.requests[2] == answered
    assert again["summarised_messages"] == ledger["summarised_messages"] + ledger["dropped_messages"]
