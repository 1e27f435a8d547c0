"""Whatever a client sends, it is answered with less than 500, and the server serves on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from madang.models.parameters import KNOWN
from madang.server.ollama.asking import CHAT, GENERATE
from madang.server.ollama.embedding import EMBED
from madang.server.ollama.listing import SHOW
from madang.server.ollama.making import COPY, CREATE, DELETE
from madang.server.ollama.pulling import PULL

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["echo", "json", "5m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | VALUES, "content": st.text() | VALUES},
        optional={"tool_calls": VALUES, "images": VALUES, "thinking": VALUES, "tool_name": VALUES},
    ),
    max_size=3,
)


def bodies(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    known = dict.fromkeys(names, VALUES)
    known |= {"model": st.just("echo") | VALUES, "options": st.dictionaries(st.sampled_from(KNOWN), VALUES) | VALUES}
    known |= {"messages": MESSAGES | VALUES, "prompt": st.text(max_size=20) | VALUES}
    return st.fixed_dictionaries({}, optional={name: known[name] for name in (*names, "options") if name in known})


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/api/chat", CHAT),
        ("POST", "/api/generate", GENERATE),
        ("POST", "/api/embed", EMBED),
        ("POST", "/api/show", SHOW),
        ("POST", "/api/create", CREATE),
        ("POST", "/api/copy", COPY),
        ("DELETE", "/api/delete", DELETE),
    ],
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_body(client: TestClient, method: str, path: str, fields: Any, data: st.DataObject) -> None:
    names = (*fields.honoured, *fields.ignored, *fields.refused)
    content = json.dumps(data.draw(bodies(names)))
    answer = client.request(method, path, content=content)
    assert answer.status_code < 500, (content, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["error"]


TRAVERSALS = [
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "file:/etc/passwd",
    "a/../../b",
    "a\\..\\b",
    "a\x00b",
    "~root",
    "a/b:../c",
]


@pytest.mark.parametrize("name", TRAVERSALS)
@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/api/chat", CHAT),
        ("POST", "/api/generate", GENERATE),
        ("POST", "/api/embed", EMBED),
        ("POST", "/api/show", SHOW),
        ("POST", "/api/pull", PULL),
        ("POST", "/api/create", CREATE),
        ("DELETE", "/api/delete", DELETE),
    ],
)
def test_no_name_leaves_the_store(client: TestClient, name: str, method: str, path: str, fields: Any) -> None:
    answer = client.request(method, path, json={"model": name, "input": "x", "from": "echo"})
    assert answer.status_code == 400
    assert "root:" not in answer.text


@pytest.mark.parametrize("name", TRAVERSALS)
def test_no_copy_leaves_the_store(client: TestClient, name: str) -> None:
    assert client.post("/api/copy", json={"source": name, "destination": "x"}).status_code == 400
    assert client.post("/api/copy", json={"source": "x", "destination": name}).status_code in (400, 404)


@pytest.mark.parametrize("text", ["\\ud800", "\\uDFFF x", "\\udc00\\ud800"])
def test_halves_of_characters(client: TestClient, text: str) -> None:
    content = '{"model": "echo", "stream": false, "messages": [{"role": "user", "content": "%s"}]}'
    assert client.post("/api/chat", content=content % text).status_code == 400
    whole = client.post("/api/chat", content=content % "\\ud83d\\ude00").json()
    assert whole["message"]["content"] == "😀"
    assert client.post("/api/show", content=f'{{"model": "{text}"}}').status_code == 400
