"""Clients that trickle, pile up, or leave, against the real application on a socket; the others notice nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madang.core import Loaded
from madang.core.settings import load_settings
from madang.engines.echo import EchoEngine
from madang.models import Store
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.serving import PatientProtocol
from tests.server.ollama.conftest import Named
from tests.server.serving import Endless, Running, post, read_answer, served


class Hasty(PatientProtocol):
    header_s = 0.5
    most_connections = 8


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def slow_state(tmp_path: Path, endless: Endless) -> Iterator[ServerState]:
    models: dict[str, Loaded] = {"echo": EchoEngine(context_tokens=4000), "endless": endless}
    pool = Named(models)
    settings = load_settings({"home": tmp_path}, {})
    yield ServerState(pool=pool, store=Store(tmp_path), settings=settings, body_idle_s=0.3, body_s=1.5)
    assert pool.n_leases == 0


@pytest.fixture
def running(slow_state: ServerState) -> Iterator[Running]:
    with served(create_app(slow_state), protocol=Hasty) as server:
        yield server


def chat(text: str = "still here", **fields: Any) -> bytes:
    body = {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}
    return post("/v1/chat/completions", json.dumps(body).encode(), "Connection: close")


def is_alive(server: Running) -> bool:
    """Whether a new client is answered in full."""
    with server.connect() as connection:
        connection.sendall(chat())
        return b'"content":"still here"' in read_answer(connection)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


def test_a_body_that_stops_is_answered_and_closed(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(HEAD + b'Content-Length: 1000\r\n\r\n{"model": "e')
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"request_timeout" in answer
    assert is_alive(running)


@pytest.mark.parametrize("kind", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_cut_off_while_others_are_served(running: Running, kind: bytes) -> None:
    piece = b"1\r\n \r\n" if b"chunked" in kind else b" "
    with running.connect() as connection:
        connection.sendall(HEAD + kind + b"\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        for _ in range(400):
            assert is_alive(running)
            try:
                connection.sendall(piece)
                answer += connection.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer:
                break
        assert not answer or answer.startswith(b"HTTP/1.1 408 ")
        connection.settimeout(20)
        while_open(connection)


def while_open(connection: socket.socket) -> None:
    """Wait for the other end to hang up."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass


def test_a_hundred_slow_clients_leave_room(slow_state: ServerState) -> None:
    class Patient(PatientProtocol):
        header_s = 5.0

    with served(create_app(slow_state), protocol=Patient) as server, ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(100)]
        for number, connection in enumerate(slow):
            connection.sendall(HEAD[: 10 + number % 40])
        assert is_alive(server)


def test_a_100_mb_body_reaches_no_route(running: Running) -> None:
    for path in ("/v1/chat/completions", "/api/chat", "/v1/messages", "/madang/v1/pulls", "/api/create"):
        with running.connect() as connection:
            connection.sendall(
                b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n" % path.encode()
            )
            assert read_answer(connection).startswith(b"HTTP/1.1 413 "), path
    assert is_alive(running)


def test_no_more_connections_than_the_limit(running: Running) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(running.connect()) for _ in range(Hasty.most_connections)]
        for connection in held:
            connection.sendall(HEAD)
        late = stack.enter_context(running.connect())
        answer = read_answer(late)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
    for _ in range(100):  # as soon as they are gone, there is room again
        try:
            if is_alive(running):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the connections were never given back")


MESSAGES = [{"role": "user", "content": "hello"}]
STREAMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/completions", {"prompt": "hello", "stream": True, "max_tokens": 100_000}),
    ("/v1/responses", {"input": "hello", "stream": True}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 100_000, "stream": True}),
    ("/api/chat", {"messages": MESSAGES}),
    ("/api/generate", {"prompt": "hello"}),
)


@pytest.mark.parametrize(("path", "body"), STREAMS, ids=[path for path, _ in STREAMS])
def test_who_leaves_a_stream_frees_its_place_and_disturbs_nobody(
    running: Running, endless: Endless, path: str, body: dict[str, Any]
) -> None:
    request = post(path, json.dumps({"model": "endless", **body}).encode())
    text = "one two three " * 200
    with running.connect() as stays:
        stays.sendall(chat(text, stream=True))
        for _ in range(2):  # the engine runs one at a time: the second finds the place of the first
            endless.ended.clear()
            with running.connect() as leaves:
                leaves.sendall(request)
                assert leaves.recv(1 << 10).startswith(b"HTTP/1.1 200 ")
            assert endless.ended.wait(20)
        answer = read_answer(stays)
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: {")]
    pieces = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
    assert "".join(pieces) == text and b"data: [DONE]" in answer
    assert endless.n_streams == 2


@pytest.mark.parametrize(("path", "body"), STREAMS, ids=[path for path, _ in STREAMS])
def test_who_leaves_before_an_answer_is_whole_frees_its_place(
    running: Running, endless: Endless, path: str, body: dict[str, Any]
) -> None:
    request = post(path, json.dumps({"model": "endless", **body, "stream": False}).encode())
    with running.connect() as leaves:
        leaves.sendall(request)
        for _ in range(2000):
            if endless.n_streams:
                break
            time.sleep(0.01)
        assert endless.n_streams, "it has not begun"
    assert endless.ended.wait(20)
    assert is_alive(running)


def test_an_upload_may_take_longer_than_a_request_but_not_stop(slow_state: ServerState) -> None:
    with served(create_app(replace(slow_state, body_s=0.6))) as server, server.connect() as connection:
        path = b"/api/blobs/sha256:" + b"0" * 64
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n" % path)
        for _ in range(9):
            connection.sendall(b"x")
            time.sleep(0.1)
        connection.sendall(b"x")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")  # of another digest, but read to its end
    with served(create_app(slow_state)) as server, server.connect() as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nxx" % path)
        assert read_answer(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_a_stream_that_outlasts_the_drain_ends_with_one_error(slow_state: ServerState, path: str) -> None:
    body = {"model": "endless", "messages": [{"role": "user", "content": "a"}], "stream": True, "max_tokens": 10**6}
    if path == "/api/chat":
        del body["max_tokens"]
    with served(create_app(slow_state), drain_s=0.2) as server, server.connect() as connection:
        connection.sendall(post(path, json.dumps(body).encode(), "Connection: close"))
        assert connection.recv(1024)
        server.stop()
        answer = read_answer(connection)
    assert answer.count(b"The server is stopping.") == 1
    assert answer.endswith(b"\r\n0\r\n\r\n")  # a body that is whole: nothing was torn off
