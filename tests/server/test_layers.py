"""Bounds on bodies and time, the queue, the drain, numbers and logs: over sockets where the transport matters."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.core.errors import Overloaded, RequestTimeout, RequestTooLarge
from madang.engines.echo import EchoEngine
from madang.server.keys import KeyFile
from madang.server.limits import BODY_IDLE_S, BODY_S, Admission, BodyClock
from madang.server.logs import JsonFormatter, configure_logs, redacted
from madang.server.serving import PatientProtocol
from tests.server.serving import Endless, FixedPool, Running, post, read_answer, served, tiny_app

LIMIT_BYTES = 1 << 20


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def running(tmp_path: Path, endless: Endless) -> Iterator[Running]:
    pool = FixedPool({"echo": EchoEngine(), "endless": endless})
    with served(tiny_app(tmp_path, pool=pool, body_bytes=LIMIT_BYTES, waiting=2)) as server:
        yield server


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(tiny_app(tmp_path, body_bytes=LIMIT_BYTES), base_url="http://localhost")


def say(model: str, text: str = "hello") -> bytes:
    return post("/say", json.dumps({"model": model, "text": text}).encode(), "Connection: close")


def is_alive(server: Running) -> bool:
    """Whether a new request is answered in full."""
    with server.connect() as connection:
        connection.sendall(say("echo", "still here"))
        return b"still here" in b"".join(chunks(read_answer(connection)))


def chunks(answer: bytes) -> list[bytes]:
    """The pieces of a chunked body."""
    return answer.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2]


# -- bodies


def test_a_body_of_100_mb_is_refused_unread(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n")
        assert b" 413 " in read_answer(connection).partition(b"\r\n")[0]
    assert is_alive(running)


def test_a_body_of_100_mb_without_a_length_is_cut_off(running: Running) -> None:
    sent = 0
    with running.connect() as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):  # the server hangs up long before
            for _ in range(100):
                connection.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
                sent += 1
            connection.sendall(b"0\r\n\r\n")
            while connection.recv(1 << 16):
                pass
            raise ConnectionResetError
    assert sent < 100
    assert is_alive(running)


def test_streamed_bodies_are_counted(client: TestClient) -> None:
    def pieces(n_bytes: int) -> Iterator[bytes]:
        for _ in range(n_bytes // 1024):
            yield b"x" * 1024

    assert client.post("/read", content=pieces(LIMIT_BYTES)).json() == {"bytes": LIMIT_BYTES}
    answer = client.post("/read", content=pieces(LIMIT_BYTES + 1024))
    assert answer.status_code == 413
    assert "1.0" in answer.json()["error"]["message"]


def test_a_length_that_lies_changes_nothing(client: TestClient) -> None:
    for length in ("1", "99999999999999999999999999", "-1", "x"):
        answer = client.post("/read", content=b"x" * (LIMIT_BYTES + 1), headers={"Content-Length": length})
        assert answer.status_code == 413


def test_uploads_have_a_bound_of_their_own(client: TestClient) -> None:
    assert client.post("/api/blobs/sha256:x", content=b"x" * (LIMIT_BYTES + 1)).status_code == 200
    answer = client.post("/api/blobs/sha256:x", content=b"", headers={"Content-Length": str(1 << 50)})
    assert answer.status_code == 413


def test_time_for_a_body_runs_out() -> None:
    now_s = 0.0
    clock = BodyClock(10, BODY_S, clock=lambda: now_s)
    assert clock.patience_s() == BODY_IDLE_S
    clock.count(10)
    with pytest.raises(RequestTooLarge):
        clock.count(1)
    now_s = BODY_S - 1
    assert clock.patience_s() == 1
    now_s = BODY_S + 1
    assert clock.patience_s() == 0
    with pytest.raises(RequestTimeout):
        clock.count(-1)


# -- slow clients


class Hasty(PatientProtocol):
    header_s = 0.2


@pytest.mark.parametrize("beginning", [b"", b"POST", b"POST /say HTTP/1.1\r\nHost: local", b"GET / HTTP/1.1\r\n"])
def test_headers_that_do_not_come_close_the_connection(tmp_path: Path, beginning: bytes) -> None:
    with served(tiny_app(tmp_path), protocol=Hasty) as server, server.connect() as connection:
        connection.sendall(beginning)
        assert ends(connection)
        assert is_alive(server)


def test_headers_that_trickle_close_the_connection(tmp_path: Path) -> None:
    with served(tiny_app(tmp_path), protocol=Hasty) as server, server.connect() as connection:
        with pytest.raises(OSError):
            for i in range(10_000):
                connection.sendall(b"X-%d: a\r\n" % i if i else b"GET / HTTP/1.1\r\n")
                time.sleep(0.02)
        assert is_alive(server)


def test_a_second_request_on_a_connection_has_its_own_time(tmp_path: Path) -> None:
    with served(tiny_app(tmp_path), protocol=Hasty) as server, server.connect() as connection:
        for _ in range(3):
            connection.sendall(post("/read", b"four"))
            received = b""
            while b'{"bytes":4}' not in received:
                part = connection.recv(1 << 16)
                assert part
                received += part
        connection.sendall(b"POST /re")
        assert ends(connection)


def test_an_answer_may_take_longer_than_headers(tmp_path: Path, endless: Endless) -> None:
    pool = FixedPool({"echo": EchoEngine(), "endless": endless})
    with served(tiny_app(tmp_path, pool=pool), protocol=Hasty) as server, server.connect() as connection:
        connection.sendall(say("endless"))
        until = time.monotonic() + 3 * Hasty.header_s
        while time.monotonic() < until:
            assert connection.recv(1 << 16)


def test_headers_have_a_size(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 20))
        assert ends(connection)
    assert is_alive(running)


def ends(connection: socket.socket) -> bool:
    """Whether the other end hangs up, before the time-out of the socket."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


# -- going away


def test_a_client_that_leaves_frees_its_place(running: Running, endless: Endless) -> None:
    with running.connect() as connection:
        connection.sendall(say("endless"))
        assert connection.recv(1024)
    assert endless.ended.wait(20)
    endless.ended.clear()
    with running.connect() as connection:  # the engine runs one at a time
        connection.sendall(say("endless"))
        assert connection.recv(1024)
    assert endless.ended.wait(20)
    assert endless.n_streams == 2


def test_a_client_that_leaves_disturbs_nobody(running: Running, endless: Endless) -> None:
    with running.connect() as stays, running.connect() as leaves:
        text = "one two three " * 200
        stays.sendall(say("echo", text))
        leaves.sendall(say("endless"))
        assert leaves.recv(1024)
        leaves.close()
        assert b"".join(chunks(read_answer(stays))).decode().endswith(text[-100:])
    assert endless.ended.wait(20)


def test_a_client_that_does_not_read_loses_its_place(tmp_path: Path, endless: Endless) -> None:
    pool = FixedPool({"endless": endless})
    with served(tiny_app(tmp_path, pool=pool, stall_s=0.3)) as server, server.connect() as connection:
        connection.sendall(say("endless"))
        assert endless.ended.wait(20)


# -- the queue


def test_only_so_many_wait(running: Running, endless: Endless) -> None:
    with ExitStack() as stack:
        first, *others = [stack.enter_context(running.connect()) for _ in range(3)]
        first.sendall(say("endless"))
        assert first.recv(1024)  # one runs, two wait
        for connection in others:
            connection.sendall(say("endless"))
        wait_until(lambda: waiting(running) == 2)
        with running.connect() as late:
            late.sendall(say("endless"))
            answer = read_answer(late)
        assert b" 503 " in answer.partition(b"\r\n")[0]
        assert b"2 requests are waiting" in answer
        assert is_alive(running)  # another engine has a place
    wait_until(lambda: waiting(running) == 0)


def waiting(server: Running) -> float:
    """What the server says of its queue."""
    with server.connect() as connection:
        connection.sendall(b"GET /madang/v1/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return float(json.loads(read_answer(connection).partition(b"\r\n\r\n")[2])["waiting"])


def wait_until(condition: object) -> None:
    for _ in range(400):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_places_are_taken_in_order() -> None:
    async def run() -> list[int]:
        admission, engine, order = Admission(limit=8), EchoEngine(), list[int]()

        async def one(number: int) -> None:
            async with admission.place(engine):
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*map(one, range(6)))
        assert (admission.n_running, admission.n_waiting) == (0, 0)
        return order

    assert asyncio.run(run()) == list(range(6))


def test_who_waits_may_leave() -> None:
    async def run() -> None:
        admission, engine = Admission(limit=1), EchoEngine()
        async with admission.place(engine):
            waits = asyncio.create_task(admission.place(engine).__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as caught:
                async with admission.place(engine):
                    pass
            assert caught.value.retry_after_s > 0
            waits.cancel()
            await asyncio.wait({waits})
            assert admission.n_waiting == 0
        async with admission.place(engine):
            pass

    asyncio.run(run())


# -- stopping


def test_what_runs_may_finish_and_what_is_new_is_refused(tmp_path: Path, endless: Endless) -> None:
    pool = FixedPool({"echo": EchoEngine(), "endless": endless})
    with served(tiny_app(tmp_path, pool=pool)) as server, server.connect() as runs:
        runs.sendall(say("endless"))
        assert runs.recv(1024)
        server.stop()
        with server.connect() as late:
            late.sendall(say("echo"))
            answer = read_answer(late)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 5" in answer.lower()
        for path, status in ((b"/health", b"200"), (b"/ready", b"503")):
            with server.connect() as probe:
                probe.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
                assert read_answer(probe).startswith(b"HTTP/1.1 " + status)
        assert runs.recv(1024)  # still talking
        runs.close()
        server.thread.join(20)
        assert not server.thread.is_alive()
        assert endless.ended.is_set()


def test_what_does_not_finish_is_cancelled(tmp_path: Path, endless: Endless) -> None:
    pool = FixedPool({"endless": endless})
    with served(tiny_app(tmp_path, pool=pool), drain_s=0.2) as server, server.connect() as runs:
        runs.sendall(say("endless"))
        assert runs.recv(1024)
        reader = threading.Thread(target=ends, args=(runs,))
        reader.start()
        server.stop()
        server.thread.join(20)
        reader.join(20)
        assert not server.thread.is_alive()
        assert endless.ended.wait(20)


# -- numbers and logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("madang", "uvicorn.error", "uvicorn.access")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    configure_logs(stream)
    yield stream
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("given", ["abc-123", "0b9f8a:1.2_x"])
def test_a_request_keeps_its_number(client: TestClient, log: io.StringIO, given: str) -> None:
    answer = client.post("/read", content=b"x", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert lines(log)[-1]["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", 'x"y', "x" * 129, "a\tb", "한글".encode()])
def test_a_number_that_could_harm_is_replaced(client: TestClient, log: io.StringIO, given: str) -> None:
    answer = client.post("/read", content=b"x", headers={"X-Request-Id": given})
    number = answer.headers["x-request-id"]
    assert len(number) == 32 and number == lines(log)[-1]["request_id"]


def test_refusals_have_numbers_too(client: TestClient, log: io.StringIO) -> None:
    answer = client.post("/read", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert lines(log)[-1] | {"status": 403, "request_id": answer.headers["x-request-id"]} == lines(log)[-1]


def test_the_log_has_the_path_without_its_query(client: TestClient, log: io.StringIO) -> None:
    client.post("/read?api_key=md-secret&token=abc", content=b"x")
    assert lines(log)[-1]["path"] == "/read"
    assert "secret" not in log.getvalue() and "abc" not in log.getvalue()


def test_a_fault_is_logged_and_told_in_general(tmp_path: Path, log: io.StringIO) -> None:
    client = TestClient(tiny_app(tmp_path), base_url="http://localhost", raise_server_exceptions=False)
    secret = "md-" + "s" * 40
    answer = client.post("/fail", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 500
    assert "RuntimeError" not in answer.text and secret not in answer.text
    fault, access = lines(log)[-2:]
    assert "RuntimeError" in str(fault["traceback"]) and fault["request_id"] == access["request_id"]
    assert (access["status"], access["outcome"]) == (500, "fault")
    assert secret not in log.getvalue()


def test_prompts_and_secrets_are_in_no_log_error_or_metric(tmp_path: Path, log: io.StringIO) -> None:
    secret = KeyFile(tmp_path).add("laptop")
    client = TestClient(tiny_app(tmp_path), base_url="http://localhost")
    headers = {"Authorization": f"Bearer {secret}"}
    said = client.post("/say", json={"model": "echo", "text": "my private words"}, headers=headers)
    assert said.text == "my private words"
    wrong = client.post("/read", headers={"Authorization": "Bearer md-" + "w" * 43, "x-api-key": "other-secret"})
    basic = client.post("/read", headers={"Authorization": "Basic b25lOnR3bw=="})
    metrics = client.get("/metrics", headers=headers).text + client.get("/madang/v1/metrics", headers=headers).text
    told = log.getvalue() + wrong.text + basic.text + metrics
    for word in (secret, secret[3:], "private", "w" * 43, "other-secret", "b25lOnR3bw"):
        assert word not in told
    assert 'key="laptop"' in metrics
    assert {"key": "laptop", "model": "echo:latest"}.items() <= lines(log)[0].items()


def test_metrics_want_a_key(tmp_path: Path) -> None:
    KeyFile(tmp_path).add("one")
    client = TestClient(tiny_app(tmp_path), base_url="http://localhost")
    for path in ("/metrics", "/madang/v1/metrics", "/openapi.json", "/nowhere"):
        assert client.get(path).status_code == 401
    assert client.get("/health").json() == {"status": "ok"}
    assert client.head("/health").status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "key md-" + "a" * 43,
        "Authorization: Bearer abcdef",
        "GET /x?api_key=abcdef&y=1",
        "token=abcdef",
        "hf_" + "a" * 34,
        "sk-" + "a" * 40,
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    assert "[redacted]" in redacted(text)
    assert "abcdef" not in redacted(text) and "aaaa" not in redacted(text)


def test_a_line_of_the_log_is_one_line() -> None:
    record = logging.makeLogRecord({"msg": "a\nb \u2028 %s", "args": ('"c"',), "levelname": "INFO", "request_id": "1"})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == 'a\nb \u2028 "c"'
