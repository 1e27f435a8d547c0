"""Tokens without an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.doubles import Models, Scripted


class Spelling(Scripted):
    """Its tokens are the letters."""

    def tokenize(self, text: str) -> Sequence[int]:
        return [ord(letter) for letter in text]

    def logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        raise NotImplementedError


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
@pytest.mark.parametrize("name", ["content", "prompt"])
def test_the_tokens_of_a_text(client: TestClient, pool: Models, path: str, name: str) -> None:
    pool.models["spelling"] = Spelling()
    body = client.post(path, json={"model": "spelling", name: "ab"}).json()
    assert body == {"tokens": [97, 98], "count": 2, "max_model_len": 100}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "content"),
        ({"content": "a", "prompt": "b"}, "content"),
        ({"content": "a", "with_pieces": True}, "with_pieces"),
        ({"content": "a"}, "model"),  # the echo does not show its tokens
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = client.post("/tokenize", json={"model": "echo", **body})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "more"),
    [("/detokenize", {"tokens": [1]}), ("/apply-template", {"messages": [{"role": "user", "content": "hello"}]})],
)
def test_an_engine_that_does_not_show_its_tokens(client: TestClient, path: str, more: dict[str, Any]) -> None:
    response = client.post(path, json={"model": "echo", **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


def test_how_long_a_conversation_is(client: TestClient) -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    counted = client.post("/v1/chat/completions/input_tokens", json=chat).json()["input_tokens"]
    assert counted == client.post("/v1/chat/completions", json=chat).json()["usage"]["prompt_tokens"]
    newer = {"model": "echo", "input": "hello"}
    assert client.post("/v1/responses/input_tokens", json=newer).json()["input_tokens"] == counted
