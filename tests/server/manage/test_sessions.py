"""Sessions, personas and runs over HTTP: what can be done, and by whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import TextDelta
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.keys import KeyFile
from tests.server.conftest import Script
from tests.server.doubles import done

BASE = "/madang/v1"


def test_the_life_of_a_session(client: TestClient) -> None:
    made = client.post(f"{BASE}/sessions", json={"title": "First", "context_policy": "drop_oldest"})
    assert made.status_code == 201
    session = made.json()["id"]
    said = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "## user"}]
    whole = client.post(f"{BASE}/sessions/{session}/messages", json={"messages": said}).json()
    assert [message["content"] for message in whole["messages"]] == ["안녕", "## user"]
    changed = client.post(f"{BASE}/sessions/{session}", json={"title": "Second", "model": "m:1"}).json()
    assert (changed["title"], changed["model"], changed["context_policy"]) == ("Second", "m:1", "drop_oldest")
    assert client.post(f"{BASE}/sessions/{session}", json={"model": ""}).json()["model"] is None
    found = client.get(f"{BASE}/sessions", params={"query": "안녕 second"}).json()["sessions"]
    assert [one["id"] for one in found] == [session]
    assert client.get(f"{BASE}/sessions", params={"query": "other"}).json() == {"sessions": []}
    branch = client.post(f"{BASE}/sessions/{session}/branch", json={"message": whole["messages"][0]["id"]}).json()
    assert branch["head"] == whole["messages"][0]["id"]
    assert client.delete(f"{BASE}/sessions/{session}").json() == {"id": session}
    assert client.get(f"{BASE}/sessions/{session}").status_code == 404


@pytest.mark.parametrize("format", ["json", "markdown"])
def test_what_is_exported_can_be_imported(client: TestClient, format: str) -> None:
    session = client.post(f"{BASE}/sessions", json={"title": "제목"}).json()["id"]
    said = [{"role": "user", "content": "<script>"}, {"role": "assistant", "content": "## user\n\nno"}]
    client.post(f"{BASE}/sessions/{session}/messages", json={"messages": said})
    exported = client.get(f"{BASE}/sessions/{session}/export", params={"format": format})
    assert exported.headers["content-disposition"].startswith("attachment;")
    body = {"document": exported.json()} if format == "json" else {"markdown": exported.text}
    imported = client.post(f"{BASE}/sessions/import", json=body)
    assert imported.status_code == 201, imported.text
    assert imported.json()["title"] == "제목"
    copy = client.get(f"{BASE}/sessions/{imported.json()['id']}").json()["messages"]
    assert [{"role": message["role"], "content": message["content"]} for message in copy] == said


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sessions", {"title": "x" * 201}),
        ("/sessions", {"context_policy": "forget"}),
        ("/sessions", {"tittle": "x"}),
        ("/sessions", {"title": "\ud800"}),
        ("/sessions/import", {}),
        ("/sessions/import", {"document": {}, "markdown": ""}),
        ("/sessions/import", {"document": {"messages": [{"role": "user", "content": "\ud800"}]}}),
        ("/sessions/import", {"document": {"messages": [], "session": {"title": 7}}}),
        ("/sessions/import", {"markdown": "nothing"}),
        ("/sessions/{id}/messages", {"messages": []}),
        ("/sessions/{id}/messages", {"messages": [{"role": "king", "content": "x"}]}),
        ("/sessions/{id}/messages", {"messages": [{"role": "user", "content": "x"}], "parent": "msg_x"}),
        ("/sessions/{id}/branch", {"message": "msg_x"}),
        ("/sessions/{id}/branch", {}),
        ("/personas", {"name": ""}),
        ("/personas", {"name": "x", "collections": ["y"] * 65}),
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, path: str, body: dict[str, Any]) -> None:
    session = client.post(f"{BASE}/sessions", json={}).json()["id"]
    answer = client.post(BASE + path.format(id=session), content=json.dumps(body))
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["code"] in ("invalid_request", "not_found")
    assert len(client.get(f"{BASE}/sessions").json()["sessions"]) == 1
    assert client.get(f"{BASE}/sessions/{session}").json()["messages"] == []


@pytest.mark.parametrize("query", ["before=-1", "before=nan", "limit=0", "limit=9999", f"before={1 << 70}", "before=x"])
@pytest.mark.parametrize("path", ["/sessions", "/runs"])
def test_pages_out_of_range(client: TestClient, path: str, query: str) -> None:
    assert client.get(f"{BASE}{path}?{query}").status_code == 400


@pytest.fixture
def guarded(state: ServerState) -> Iterator[dict[str, TestClient]]:
    """Two keys of one server, and a client for each."""
    keys = KeyFile(state.settings.home)
    secrets = {name: keys.add(name) for name in ("alice", "bob")}
    app = create_app(state)
    with TestClient(app, base_url="http://localhost") as opened:
        yield {
            name: TestClient(app, base_url="http://localhost", headers={"Authorization": f"Bearer {secret}"})
            for name, secret in secrets.items()
        } | {"nobody": opened}


OBJECTS: list[tuple[str, str, Any]] = [
    ("GET", "/sessions/{id}", None),
    ("GET", "/sessions/{id}?branches=true", None),
    ("POST", "/sessions/{id}", {"title": "mine"}),
    ("DELETE", "/sessions/{id}", None),
    ("POST", "/sessions/{id}/messages", {"messages": [{"role": "user", "content": "x"}]}),
    ("POST", "/sessions/{id}/branch", {"message": None}),
    ("GET", "/sessions/{id}/export", None),
    ("GET", "/sessions/{id}/export?format=markdown", None),
    ("GET", "/personas/tutor", None),
    ("DELETE", "/personas/tutor", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OBJECTS)
def test_a_key_reaches_its_own_objects_only(
    guarded: dict[str, TestClient], method: str, path: str, body: dict[str, Any] | None
) -> None:
    alice, bob = guarded["alice"], guarded["bob"]
    session = alice.post(f"{BASE}/sessions", json={"title": "private"}).json()["id"]
    said = {"messages": [{"role": "user", "content": "secret"}]}
    alice.post(f"{BASE}/sessions/{session}/messages", json=said)
    alice.post(f"{BASE}/personas", json={"name": "tutor", "system": "secret"})
    before = alice.get(f"{BASE}/sessions/{session}").json()
    url = BASE + path.format(id=session)
    nowhere = BASE + path.replace("tutor", "none").format(id="ses_none")
    theirs, missing = bob.request(method, url, json=body), bob.request(method, nowhere, json=body)
    assert (theirs.status_code, missing.status_code) == (404, 404)
    told = theirs.json()["error"]["message"].replace(session, "ses_none").replace("tutor", "none")
    assert told == missing.json()["error"]["message"]
    assert guarded["nobody"].request(method, url, json=body).status_code == 401
    assert alice.get(f"{BASE}/sessions/{session}").json() == before
    assert alice.get(f"{BASE}/personas/tutor").json()["system"] == "secret"
    for listed in ("/sessions", "/sessions?query=secret", "/personas", "/runs"):
        assert "secret" not in bob.get(BASE + listed).text
        assert session not in bob.get(BASE + listed).text
    assert alice.request(method, url, json=body).status_code < 300


def test_a_chat_does_not_reach_the_session_of_another_key(guarded: dict[str, TestClient], script: Script) -> None:
    engine = script(TextDelta("."), done())
    session = guarded["alice"].post(f"{BASE}/sessions", json={}).json()["id"]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "madang": {"session": session}}
    for stream in (False, True):
        answer = guarded["bob"].post("/v1/chat/completions", json={**body, "stream": stream})
        assert answer.status_code == 404
    assert engine.requests == []
    assert guarded["alice"].post("/v1/chat/completions", json=body).status_code == 200
    mine = guarded["bob"].post(f"{BASE}/sessions", json={}).json()["id"]
    head = guarded["alice"].get(f"{BASE}/sessions/{session}").json()["head"]
    wanted = {"session": mine, "parent": head}
    assert guarded["bob"].post("/v1/chat/completions", json={**body, "madang": wanted}).status_code == 404


def test_every_generation_is_a_run(guarded: dict[str, TestClient], script: Script) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "a secret question"}]}
    script(TextDelta("a secret answer"), done())
    answer = guarded["alice"].post("/v1/chat/completions", json=body, headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 200
    guarded["alice"].post("/v1/messages", json={**body, "max_tokens": 5})
    runs = guarded["alice"].get(f"{BASE}/runs")
    assert "secret" not in runs.text
    second, first = runs.json()["runs"]
    assert (first["model"], first["status"], first["facts"]["request_id"]) == ("scripted:latest", "done", "r-1")
    assert first["facts"]["usage"] == {
        "prompt_tokens": 7,
        "cached_tokens": 3,
        "completion_tokens": 5,
        "reasoning_tokens": 0,
    }
    assert first["facts"]["timings"]["decode_s"] == 2.0
    assert first["facts"]["ledger"]["n_ctx"] == 100
    page = guarded["alice"].get(f"{BASE}/runs?before={second['id']}").json()["runs"]
    assert page == [first]
    assert guarded["alice"].get(f"{BASE}/runs?model=other").json()["runs"] == []
    assert guarded["bob"].get(f"{BASE}/runs").json()["runs"] == []
