"""Real processes that are stopped or killed in the middle of their work, and what their clients see of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from madang.engines import find_engine
from tests.conftest import STARTER
from tests.server.serving import post, read_answer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
LONG = " ".join(f"word{number}" for number in range(5000))  # whose stream is longer than what sockets hold
SHORT = " ".join(f"word{number}" for number in range(50))


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``madang serve`` and its port; killed at the end if it still runs."""
    command = [sys.executable, "-m", "madang.cli", "serve", "--port", "0", *options]
    environment = {**os.environ, "MADANG_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = urlsplit(process.stdout.readline().decode().strip()).port
            assert port is not None, process.communicate(timeout=20)[1].decode()
            yield process, port
        finally:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()


def connect(port: int, *, buffer_bytes: int | None = None) -> socket.socket:
    """A connection; with a small buffer, an answer is on its way as long as nobody reads it."""
    connection = socket.socket()
    if buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def chat(model: str, text: str, **fields: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return post("/v1/chat/completions", json.dumps(body).encode(), "Connection: close")


def events_of(answer: bytes) -> list[dict[str, Any]]:
    """What a stream says, without its end."""
    lines = answer.replace(b"\r\n", b"\n").split(b"\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


def text_of(answer: bytes) -> str:
    choices = [choice for event in events_of(answer) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def status_of(port: int, path: str, method: str = "GET") -> tuple[int, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, "{}" if method == "POST" else None)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("Retry-After")


def waiting(port: int) -> float:
    """Generations in the queue."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/madang/v1/metrics")
    return float(json.loads(connection.getresponse().read())["waiting"])


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_sigterm_under_load_finishes_what_runs_and_refuses_what_is_new(tmp_path: Path) -> None:
    """All answers that were begun are whole; new requests are told when to come again; the exit status is 0."""
    with serving(tmp_path, "--engine", "echo", "--context", "100000") as (process, port), ExitStack() as stack:
        texts = [LONG, *[SHORT] * 7]  # the engine answers one at a time: the others wait for the first
        clients = [stack.enter_context(connect(port, buffer_bytes=1 << 16)) for _ in texts]
        for client, text in zip(clients, texts, strict=True):
            client.sendall(chat("x", text, stream=True))
            if text is LONG:
                assert client.recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: waiting(port) == len(texts) - 1)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: status_of(port, "/ready")[0] == 503)
        assert status_of(port, "/v1/chat/completions", "POST") == (503, "5")
        assert status_of(port, "/api/chat", "POST") == (503, "5")
        assert status_of(port, "/health")[0] == 200
        assert process.poll() is None
        for client, text in zip(clients, texts, strict=True):
            answer = read_answer(client)
            assert b"data: [DONE]" in answer
            assert unchunked(answer) == text
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert not [line for line in errors.splitlines() if b"Traceback" in line or b'"level": "error"' in line], errors
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def unchunked(answer: bytes) -> str:
    """The text of a stream that came in chunks, which may end anywhere."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"chunked" in head.lower()
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        n_bytes = int(size, 16)
        body, rest = body + rest[:n_bytes], rest[n_bytes + 2 :]
    return text_of(body)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--engine", "echo", "--context", "100000") as (process, port),
        connect(port, buffer_bytes=4096) as client,
    ):
        client.sendall(chat("x", LONG, stream=True))
        assert client.recv(1 << 10).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: status_of(port, "/ready")[0] == 503)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)  # well below the 30 s that running answers have
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.skipif(not find_engine("llamacpp").is_installed(), reason="the llamacpp engine is not installed")
@pytest.mark.parametrize("n_kills", [1, 2])
def test_an_engine_that_is_killed_in_the_middle_of_a_stream(starter_gguf: Path, tmp_path: Path, n_kills: int) -> None:
    """Killed once, the answer goes on from where it was, to the same end; killed again, it ends with one error event.
    Either way the next request is answered by a new child, and the server lives."""
    home = starter_gguf.parents[2]  # models/blobs/…
    with serving(home, "--engine", "llamacpp", "--context", "512") as (process, port):
        wish = chat(STARTER, "Tell a long story about a fox.", stream=True, temperature=0, max_tokens=96)
        with connect(port) as client:
            client.sendall(wish)
            undisturbed = unchunked(read_answer(client))
        assert len(undisturbed) > 100
        with connect(port) as client:
            client.sendall(wish)
            answer, killed = b"", set[int]()
            while part := client.recv(1 << 9):
                answer += part
                if len(killed) < n_kills and answer.count(b'"content"') > 10 * (1 + len(killed)):
                    killed |= kill_children(process, killed)
        assert len(killed) == n_kills
        events = events_of(answer)
        errors = [event for event in events if "error" in event]
        if errors:
            assert n_kills == 2 and len(errors) == 1 and errors == events[-1:]
            assert undisturbed.startswith(unchunked(answer))
        else:
            assert unchunked(answer) == undisturbed and b"[DONE]" in answer
        with connect(port) as client:
            client.sendall(wish)
            assert unchunked(read_answer(client)) == undisturbed
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def kill_children(process: subprocess.Popen[bytes], before: set[int]) -> set[int]:
    """Of the engine; waits for one that was not killed before."""
    for _ in range(2000):
        alive = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
        ]
        if alive:
            for child in alive:
                child.kill()
            return {child.pid for child in alive}
        time.sleep(0.01)
    raise AssertionError("there is no child to kill")
