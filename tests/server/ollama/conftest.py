"""The server of the room above, asked by Ollama's names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import Loaded
from madang.core.settings import load_settings
from madang.engines.echo import EchoEngine
from madang.models import Store
from madang.server import ServerState
from madang.server.app import create_app
from tests.server.doubles import Letters, Models


class Named(Models):
    """The same pool by canonical names; remembers what was leased, for how long, and what was unloaded."""

    def __init__(self, models: dict[str, Loaded]) -> None:
        super().__init__(models)
        self.leased: list[tuple[str, float | None]] = []
        self.unloaded: list[str] = []

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        self.leased.append((reference, keep_alive_s))
        with super().lease(reference.removesuffix(":latest"), keep_alive_s=keep_alive_s) as loaded:
            yield loaded

    def unload(self, reference: str) -> bool:
        self.unloaded.append(reference)
        return True

    def resident(self) -> list[object]:
        now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
        return [
            SimpleNamespace(
                reference=f"{name}:latest",
                info=loaded.info,
                size_bytes=123,
                loaded_at=now,
                expires_at=None if name == "echo" else now,
                n_leases=0,
                reason="It was asked for.",
            )
            for name, loaded in self.models.items()
        ]


@pytest.fixture
def pool() -> Iterator[Named]:
    pool = Named({"echo": EchoEngine(context_tokens=200), "letters": Letters()})
    yield pool
    assert pool.n_leases == 0


@pytest.fixture
def state(pool: Named, tmp_path: Path) -> ServerState:
    return ServerState(pool=pool, store=Store(tmp_path), settings=load_settings({"home": tmp_path}, {}))


@pytest.fixture
def client(state: ServerState) -> Iterator[TestClient]:
    with TestClient(create_app(state), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def lines(response: Any) -> list[dict[str, Any]]:
    """Of a stream."""
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]
