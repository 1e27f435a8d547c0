"""Every field that OpenAI's own client can send is in exactly one list: honoured, ignored with a warning, refused."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from starlette.testclient import TestClient

from madang.server.openai.chat import ChatRequest
from madang.server.openai.completion import CompletionRequest
from madang.server.openai.embedding import EmbeddingRequest
from madang.server.openai.response_request import ResponseRequest
from madang.server.wire import WireRequest

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
TEXT = {"model": "echo", "prompt": "hello"}
RESPONSE = {"model": "echo", "input": "hello"}
VECTORS = {"model": "letters", "input": "hello"}

ENDPOINTS: list[tuple[str, dict[str, Any], type[WireRequest], type[Any]]] = [
    ("/v1/chat/completions", CHAT, ChatRequest, chat_create_params.CompletionCreateParamsStreaming),
    ("/v1/completions", TEXT, CompletionRequest, completion_create_params.CompletionCreateParamsStreaming),
    ("/v1/responses", RESPONSE, ResponseRequest, response_create_params.ResponseCreateParamsStreaming),
    ("/v1/embeddings", VECTORS, EmbeddingRequest, embedding_create_params.EmbeddingCreateParams),
]
each_endpoint = pytest.mark.parametrize(
    ("path", "body", "wire", "schema"),
    [(path, body, wire, set(get_type_hints(params))) for path, body, wire, params in ENDPOINTS],
    ids=[path for path, *_ in ENDPOINTS],
)


@each_endpoint
def test_every_field_of_the_schema_is_in_one_list(
    path: str, body: dict[str, Any], wire: type[WireRequest], schema: set[str]
) -> None:
    lists = [set(wire.model_fields), set(wire.IGNORED), set(wire.REFUSED)]
    assert schema - set().union(*lists) == set()
    assert [field for field in schema if sum(field in names for names in lists) != 1] == []


@each_endpoint
def test_ignored_fields_are_told(
    client: TestClient, path: str, body: dict[str, Any], wire: type[WireRequest], schema: set[str]
) -> None:
    ignored = sorted(set(wire.IGNORED) & schema)
    response = client.post(path, json=body | dict.fromkeys(ignored, "something"))
    assert response.status_code == 200, response.text
    warnings = response.json()["madang"]["warnings"]
    assert [warning.split(" is ignored")[0] for warning in warnings] == ignored


@each_endpoint
def test_refused_fields_are_named(
    client: TestClient, path: str, body: dict[str, Any], wire: type[WireRequest], schema: set[str]
) -> None:
    for name, refused in wire.REFUSED.items():
        response = client.post(path, json={**body, name: "something"})
        assert (response.status_code, response.json()["error"]["param"]) == (400, name)
        for harmless in (None, *refused.harmless):
            assert client.post(path, json={**body, name: harmless}).status_code == 200


@each_endpoint
def test_null_is_what_is_not_sent(
    client: TestClient, path: str, body: dict[str, Any], wire: type[WireRequest], schema: set[str]
) -> None:
    response = client.post(path, json=dict.fromkeys(schema) | body)
    assert response.status_code == 200, response.text
    assert "warnings" not in response.json().get("madang", {})


def test_a_field_that_nobody_knows_is_told_with_the_closest(client: TestClient) -> None:
    body = client.post("/v1/chat/completions", json={**CHAT, "temprature": 1, "xyzzy": 2}).json()
    assert body["madang"]["warnings"] == [
        "temprature is ignored: it is not known here. Did you mean temperature?",
        "xyzzy is ignored: it is not known here.",
    ]


def test_warnings_come_with_the_end_of_a_stream(client: TestClient) -> None:
    text = client.post("/v1/chat/completions", json={**CHAT, "user": "me", "stream": True}).text
    assert text.count("user is ignored") == 1
