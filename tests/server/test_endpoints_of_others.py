"""A model of another server is for whoever starts a program, never for a client: asking would visit any address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.core.settings import load_settings
from madang.models import Store
from madang.runtime import Pool
from madang.server import ServerState
from madang.server.app import create_app


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where a visit would arrive."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize(
    "route", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/chat", "/api/embed"]
)
@pytest.mark.parametrize("form", ["remote:http://127.0.0.1:{}#x", "remote:ollama+http://127.0.0.1:{}#x", "vllm:x"])
def test_no_client_sends_the_server_anywhere(listener: socket.socket, tmp_path: Path, route: str, form: str) -> None:
    settings = load_settings({"home": tmp_path}, {})
    state = ServerState(pool=Pool(settings, budget_bytes=0), store=Store(tmp_path), settings=settings)
    wish = {"messages": [{"role": "user", "content": "x"}]} if "chat" in route else {"prompt": "x", "input": "x"}
    model = form.format(listener.getsockname()[1])
    with TestClient(create_app(state), base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.post(route, json={"model": model, **wish})
    assert 400 <= answer.status_code < 500, answer.text
    with pytest.raises(BlockingIOError):
        listener.accept()
