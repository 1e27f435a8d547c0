"""The requests that use a model now, as whoever watches a server sees them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madang.server.keys import KeyFile
from tests.server.serving import Running, post, served, tiny_app


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with served(tiny_app(tmp_path)) as server:
        yield server


def live(server: Running, secret: str = "", status: int = 200) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/madang/v1/requests", headers={"Authorization": f"Bearer {secret}"} if secret else {})
    answer = connection.getresponse()
    assert answer.status == status
    document = json.loads(answer.read())
    connection.close()
    found: list[dict[str, Any]] = document.get("requests", [])
    return found


def test_an_answer_that_runs_is_told(running: Running) -> None:
    assert live(running) == []
    with running.connect() as connection:
        body = json.dumps({"model": "endless", "text": "secret"}).encode()
        connection.sendall(post("/say", body, "X-Request-Id: mine"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        [one] = live(running)
    assert (one["id"], one["model"], one["path"], one["key"]) == ("mine", "endless:latest", "/say", "")
    assert (one["state"], one["prompt_tokens"]) == ("answering", None)
    assert one["completion_tokens"] > 0
    assert "secret" not in json.dumps(one)


def test_whose_requests_are_seen(running: Running, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path)
    wide, narrow = keys.add("wide"), keys.add("narrow", models=["echo:*"])
    assert live(running, wide) == []
    live(running, narrow, 403)
    other = keys.add("other", models=["echo:*"], may_manage=True)
    with running.connect() as connection:
        body = json.dumps({"model": "endless", "text": "a"}).encode()
        connection.sendall(post("/say", body, f"Authorization: Bearer {wide}"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert [one["key"] for one in live(running, wide)] == ["wide"]
        assert live(running, other) == []
