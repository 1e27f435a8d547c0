"""A server over doubles, in this process; every test leaves it without a lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.core import Event, Loaded
from madang.core.settings import load_settings
from madang.engines.echo import EchoEngine
from madang.models import Store
from madang.server import ServerState
from madang.server.app import create_app
from tests.server.doubles import Letters, Models, Scripted

Script = Callable[..., Scripted]


@pytest.fixture
def pool() -> Iterator[Models]:
    """The echo and the letters."""
    models: dict[str, Loaded] = {"echo": EchoEngine(context_tokens=200), "letters": Letters()}
    pool = Models(models)
    yield pool
    assert pool.n_leases == 0


@pytest.fixture
def state(pool: Models, tmp_path: Path) -> ServerState:
    return ServerState(
        pool=pool, store=Store(tmp_path), settings=load_settings({"home": tmp_path, "describe": False}, {})
    )


@pytest.fixture
def client(state: ServerState) -> Iterator[TestClient]:
    with TestClient(create_app(state), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def script(pool: Models) -> Script:
    """Makes the model "scripted" say this."""

    def follow(*events: Event | Exception, max_concurrency: int = 4) -> Scripted:
        engine = Scripted(*events, max_concurrency=max_concurrency)
        pool.models["scripted"] = engine
        return engine

    return follow
