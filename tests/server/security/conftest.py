"""The server of the room above, with models that every API finds, and keys when a test makes some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from madang.engines.echo import EchoEngine
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.keys import KeyFile
from tests.server.doubles import Letters
from tests.server.ollama.conftest import Named
from tests.server.security.routes import Operation, operations


@pytest.fixture
def pool() -> Iterator[Named]:
    pool = Named({"echo": EchoEngine(context_tokens=200), "letters": Letters()})
    yield pool
    assert pool.n_leases == 0


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path)


@pytest.fixture
def app(state: ServerState) -> FastAPI:
    return create_app(state)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def routes(app: FastAPI) -> list[Operation]:
    return operations(app)


def bearer(secret: str) -> dict[str, str]:
    """The header of most clients."""
    return {"Authorization": f"Bearer {secret}"}
