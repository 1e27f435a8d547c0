"""Chats that belong to a session: what goes in front, what is kept, and that a database is never in the way."""

from __future__ import annotations

import json
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import Done, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from madang.core.errors import ContextLengthExceeded, EngineError
from madang.server import ServerState
from madang.server.app import create_app
from tests.server.conftest import Script
from tests.server.doubles import Models, done
from tests.server.serving import Endless, post, served

CHAT = "/v1/chat/completions"
SESSIONS = "/madang/v1/sessions"


def new_session(client: TestClient, **wanted: str) -> str:
    id: str = client.post(SESSIONS, json=wanted).json()["id"]
    return id


def ask(client: TestClient, session: str, *said: str, model: str = "scripted", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text} for text in said]
    parent = {"parent": more.pop("parent")} if "parent" in more else {}
    body = {"model": model, "messages": messages, "madang": {"session": session, **parent}, **more}
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    if more.get("stream"):
        last = answer.text.strip().split("\n\n")[-2]
        assert answer.text.endswith("data: [DONE]\n\n")
        return dict(json.loads(last.removeprefix("data: ")))
    return dict(answer.json())


def until(found: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """What is found in the end."""
    end_s = time.monotonic() + limit_s
    while not (value := found()) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert value
    return value


def conversation(client: TestClient, session: str) -> list[tuple[str, str]]:
    whole = client.get(f"{SESSIONS}/{session}").json()
    return [(message["role"], message["content"]) for message in whole["messages"]]


@pytest.mark.parametrize("stream", [False, True])
def test_an_exchange_is_kept_and_the_next_follows_it(client: TestClient, script: Script, stream: bool) -> None:
    engine = script(ReasoningDelta("hm"), TextDelta("Seo"), TextDelta("ul"), done())
    session = new_session(client)
    first = ask(client, session, "What is the capital?", stream=stream)
    assert first["madang"]["session"] == session
    second = ask(client, session, "And its river?", stream=stream)
    said = [("user", "What is the capital?"), ("assistant", "Seoul"), ("user", "And its river?")]
    assert [(message.role, message.content) for message in engine.requests[1].messages] == said
    assert conversation(client, session) == [*said, ("assistant", "Seoul")]
    whole = client.get(f"{SESSIONS}/{session}").json()
    assert (whole["title"], whole["model"]) == ("What is the capital?", "scripted")
    answer = whole["messages"][1]
    assert (answer["id"], answer["parent"]) == (first["madang"]["message"], first["madang"]["question"])
    assert (answer["state"], answer["reasoning"], answer["facts"]["usage"]["completion_tokens"]) == ("whole", "hm", 5)
    assert whole["head"] == second["madang"]["message"]


def test_asking_again_and_editing_begin_branches(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("one"), done())
    session = new_session(client)
    first = ask(client, session, "a")
    again = ask(client, session)
    assert [message.content for message in engine.requests[1].messages] == ["a"]
    assert again["madang"]["message"] != first["madang"]["message"]
    assert "question" not in again["madang"]
    edited = ask(client, session, "b", parent="")
    assert [message.content for message in engine.requests[2].messages] == ["b"]
    ask(client, session, "c", parent=first["madang"]["message"])
    assert [message.content for message in engine.requests[3].messages] == ["a", "one", "c"]
    assert len(client.get(f"{SESSIONS}/{session}?branches=true").json()["messages"]) == 7
    client.post(f"{SESSIONS}/{session}/branch", json={"message": edited["madang"]["message"]})
    assert conversation(client, session) == [("user", "b"), ("assistant", "one")]


def test_calls_and_their_results_are_kept(client: TestClient, script: Script) -> None:
    engine = script(ToolCallDelta(ToolCall("c1", "add", {"a": 2})), done("tool_calls"))
    session = new_session(client)
    ask(client, session, "2+2?")
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    body = {"model": "scripted", "messages": [result], "madang": {"session": session}}
    assert client.post(CHAT, json=body).status_code == 200
    roles = [message.role for message in engine.requests[1].messages]
    assert roles == ["user", "assistant", "tool"]
    assert engine.requests[1].messages[1].tool_calls[0].name == "add"


def test_a_persona_speaks_first_unless_the_request_does(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("."), done())
    client.post("/madang/v1/personas", json={"name": "pirate", "system": "You are a pirate.", "style": "Be loud."})
    session = new_session(client, persona="pirate")
    ask(client, session, "hi")
    assert engine.requests[0].messages[0].content == "You are a pirate.\n\nBe loud."
    own = [{"role": "system", "content": "Whisper."}, {"role": "user", "content": "hi"}]
    client.post(CHAT, json={"model": "scripted", "messages": own, "madang": {"session": session}})
    assert [message.content for message in engine.requests[1].messages] == ["Whisper.", "hi", ".", "hi"]
    client.delete("/madang/v1/personas/pirate")
    answer = ask(client, session, "hi")
    assert "persona 'pirate' is not there" in answer["madang"]["warnings"][0]
    assert {role for role, _ in conversation(client, session)} == {"user", "assistant"}


def test_a_session_has_its_context_policy_and_keeps_its_summaries(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("in short"), done())  # its tokens are characters, and 100 fit
    session = new_session(client, context_policy="summarise")
    ledgers = [ask(client, session, "x" * 20, max_tokens=25)["madang"] for _ in range(6)]
    n_summaries = len(engine.requests) - 6
    assert 0 < n_summaries < 6
    assert ledgers[-1]["summarised_messages"] > 0
    assert "warnings" not in ledgers[-1]
    said = [content for _, content in conversation(client, session)]
    assert said == ["x" * 20, "in short"] * 6
    strict = new_session(client)
    ask(client, strict, "x" * 20)
    assert all("in short]" not in message.content for message in engine.requests[-1].messages)


def test_a_summary_is_ready_before_it_is_needed(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("in short"), done(prompt=40, completion=20))  # as if its context of 100 were half full
    session = new_session(client, context_policy="summarise")

    def is_ready() -> bool:
        return any(request.priority == "background" for request in engine.requests)

    for n_asked in range(1, 4):  # characters count: 20 of each question, 8 of each answer, and 75 may be sent
        ask(client, session, "x" * 20, max_tokens=25)
        if n_asked == 2:
            assert not is_ready()
    until(is_ready)
    until(lambda: client.app.state.history.sessions.summaries("", session))  # type: ignore[attr-defined]
    n_before = len(engine.requests)
    ledger = ask(client, session, "x" * 20, max_tokens=25)["madang"]
    assert ledger["summarised_messages"] > 0
    assert "in short]" in engine.requests[n_before].messages[0].content


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"madang": {"session": "ses_of_another"}}, "session"),
        ({"madang": {"session": 5}}, "madang.session"),
        ({"madang": {"sesion": "x"}}, "madang.sesion"),
        ({"madang": {"parent": "msg_x"}}, "madang.session"),
        ({"madang": {"session": "SESSION", "parent": "msg_nowhere"}}, "message"),
        ({"madang": {"session": "SESSION"}, "n": 2}, "n"),
        ({"madang": {"session": "SESSION"}, "messages": []}, "messages"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_kept(
    client: TestClient, script: Script, more: dict[str, Any], param: str
) -> None:
    script(TextDelta("."), done())
    session = new_session(client)
    if "madang" in more and more["madang"].get("session") == "SESSION":
        more = {**more, "madang": {**more["madang"], "session": session}}
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], **more}
    answer = client.post(CHAT, json=body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param
    assert conversation(client, session) == []


def test_what_the_engine_refuses_is_not_kept_and_what_broke_is(client: TestClient, script: Script) -> None:
    session = new_session(client)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "madang": {"session": session}}
    script(ContextLengthExceeded(200, 100))
    assert client.post(CHAT, json=body).status_code == 400
    assert conversation(client, session) == []
    script(TextDelta("half an"), EngineError("It broke."))
    assert client.post(CHAT, json=body).status_code == 500
    whole = client.get(f"{SESSIONS}/{session}").json()["messages"]
    assert [(message["content"], message["state"]) for message in whole] == [("hi", "whole"), ("half an", "partial")]


def test_what_was_said_before_the_client_left_is_kept(state: ServerState, pool: Models) -> None:
    pool.models["endless"] = Endless()
    app = create_app(state)
    with served(app) as running:
        sessions = app.state.history.sessions
        session = sessions.create("")
        body = {"model": "endless", "stream": True, "messages": [{"role": "user", "content": "talk"}]}
        with running.connect() as connection:
            connection.sendall(post(CHAT, json.dumps(body | {"madang": {"session": session.id}}).encode()))
            while b"xxx" not in connection.recv(1 << 16):
                pass
        turns = until(lambda: [turn for turn in sessions.path("", session.id) if turn.state == "partial"])
        assert set(turns[0].message.content) == {"x"}
        runs = until(lambda: app.state.history.runs.list(""))
        assert (runs[0].status, runs[0].facts["code"]) == ("cancelled", "cancelled")


def test_a_session_survives_the_server(state: ServerState, script: Script) -> None:
    engine = script(TextDelta("yes"), done())
    with TestClient(create_app(state), base_url="http://localhost") as first:
        session = new_session(first)
        ask(first, session, "one")
    with TestClient(create_app(state), base_url="http://localhost") as second:
        ask(second, session, "two")
    assert [message.content for message in engine.requests[1].messages] == ["one", "yes", "two"]


# ---- when the database fails


def database_of(state: ServerState) -> Path:
    return state.settings.home / "madang.db"


@contextmanager
def corrupt(path: Path) -> Iterator[None]:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    yield


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.close()


@contextmanager
def full(path: Path) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A write version that SQLite does not know makes a file read-only, for the superuser too."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09")
    yield


FAILURES = {"corrupt": corrupt, "locked": locked, "full": full, "read-only": read_only}
each_failure = pytest.mark.parametrize("failure", FAILURES)


@pytest.fixture
def impatient(state: ServerState) -> ServerState:
    """It does not wait long for its database."""
    return replace(state, database_s=0.05)


@pytest.fixture
def quick(impatient: ServerState) -> Iterator[TestClient]:
    app = create_app(impatient)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@each_failure
@pytest.mark.parametrize("stream", [False, True])
def test_chats_go_on_while_the_database_fails(
    quick: TestClient, state: ServerState, script: Script, failure: str, stream: bool
) -> None:
    script(TextDelta("an answer"), done())
    session = new_session(quick)
    ask(quick, session, "before")
    quick.app.state.history.journal.settle(20.0)  # type: ignore[attr-defined]
    with FAILURES[failure](database_of(state)):
        for _ in range(3):
            answer = quick.post(CHAT, json={"model": "scripted", "messages": [{"role": "user", "content": "hi"}]})
            assert answer.json()["choices"][0]["message"]["content"] == "an answer"
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "madang": {"session": session}}
        answers = [quick.post(CHAT, json={**body, "stream": stream}) for _ in range(3)]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert "an answer" in answer.text
    if failure == "corrupt":  # a new database has been begun, in which the session is not
        kept = next(file.name for file in state.settings.home.iterdir() if ".damaged-" in file.name)
        assert kept[:22] in quick.get("/ready").json()["history"]
        assert "What was said before is not known" in answers[-1].text
        assert new_session(quick)
    else:
        assert "may not be kept" in answers[-1].text


@each_failure
def test_a_server_whose_database_is_broken_from_the_start(
    state: ServerState, impatient: ServerState, script: Script, failure: str
) -> None:
    script(TextDelta("an answer"), done())
    with TestClient(create_app(state), base_url="http://localhost") as first:
        session = new_session(first)
    with FAILURES[failure](database_of(state)):
        app = create_app(impatient)
        with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
            body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
            assert client.post(CHAT, json=body).status_code == 200
            until(lambda: app.state.history.trouble or not app.state.history.journal.n_waiting)
            ready = client.get("/ready")
            assert ready.status_code == 200
            kept = client.post(CHAT, json={**body, "madang": {"session": session}})
            own = client.post(SESSIONS, json={"title": "x"})
            metrics = client.get("/metrics").text
    if failure == "corrupt":
        assert (kept.status_code, own.status_code) == (200, 201)
        assert "madang_history_available 1.0" in metrics
    else:
        assert "database" in ready.json()["history"]
        assert str(state.settings.home) not in ready.text
        assert (kept.status_code, own.status_code) == (200, 503)
        assert own.json()["error"]["code"] == "storage_error"
        assert "madang_history_available 0.0" in metrics


def test_a_database_of_a_newer_version_is_left_alone(state: ServerState, script: Script) -> None:
    script(TextDelta("an answer"), done())
    with TestClient(create_app(state), base_url="http://localhost") as first:
        new_session(first)
    with sqlite3.connect(database_of(state)) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with TestClient(create_app(state), base_url="http://localhost") as client:
        refused = client.get(SESSIONS)
        assert refused.status_code == 503
        assert "version 99, which a newer madang wrote" in refused.json()["error"]["message"]
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
        assert client.post(CHAT, json=body).status_code == 200


def test_it_is_kept_when_the_database_works_again(quick: TestClient, state: ServerState, script: Script) -> None:
    script(TextDelta("an answer"), done())
    session = new_session(quick)
    with locked(database_of(state)):
        answer = ask(quick, session, "meanwhile")
    until(lambda: not quick.app.state.history.journal.n_waiting)  # type: ignore[attr-defined]
    assert conversation(quick, session) == [("user", "meanwhile"), ("assistant", "an answer")]
    assert answer["madang"]["session"] == session
    assert quick.get("/ready").json() == {"status": "ok", "history": "ok"}


# ---- what a session is about

DESCRIPTION = json.dumps({"title": "Capital of Korea", "tags": ["capital"], "summary": "The capital is Seoul."})


@pytest.fixture
def describing(state: ServerState) -> Iterator[TestClient]:
    settings = replace(state.settings, describe=True)
    with TestClient(create_app(replace(state, settings=settings)), base_url="http://localhost") as client:
        yield client


def test_a_session_is_described_by_its_model_when_nothing_else_runs(describing: TestClient, script: Script) -> None:
    engine = script(TextDelta(DESCRIPTION), done(prompt=7))
    engine.info = replace(engine.info, context_tokens=4096)
    session = new_session(describing)
    ask(describing, session, "What is the capital of Korea?")
    assert not is_described(describing, session)  # its context of 100 tokens has no room for it
    engine = script(TextDelta(DESCRIPTION), roomy_done())
    ask(describing, session, "What is the capital of Korea?")
    whole = until(lambda: is_described(describing, session))
    assert (whole["title"], whole["tags"]) == ("Capital of Korea", ["capital"])
    assert whole["summary"] == "The capital is Seoul"
    asked = engine.requests[1]
    assert asked.priority == "background"
    assert [message.content for message in asked.messages[:-1]] == [
        text for _, text in conversation(describing, session)
    ]
    for _ in range(2):
        ask(describing, session, "And of France?")
    assert [request.priority for request in engine.requests].count("background") == 1
    changed = describing.post(f"{SESSIONS}/{session}", json={"title": "Mine", "tags": ["own"]}).json()
    assert (changed["title"], changed["title_by"], changed["tags"]) == ("Mine", "person", ["own"])


def test_an_engine_that_answers_one_at_a_time_is_not_asked(describing: TestClient, script: Script) -> None:
    engine = script(TextDelta(DESCRIPTION), roomy_done(), max_concurrency=1)
    session = new_session(describing)
    for _ in range(2):
        ask(describing, session, "What is the capital of Korea?")
    assert len(engine.requests) == 2
    assert describing.get(f"{SESSIONS}/{session}").json()["title_by"] == "question"


def roomy_done() -> Done:
    return replace(done(), ledger=replace(done().ledger, n_ctx=4096))


def is_described(client: TestClient, session: str) -> Any:
    whole = client.get(f"{SESSIONS}/{session}").json()
    return whole if whole["title_by"] == "model" else None
