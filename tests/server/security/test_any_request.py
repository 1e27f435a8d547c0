"""Requests that are made from the committed OpenAPI document: none is answered with a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from starlette.types import Receive, Scope, Send

from madang.core.settings import load_settings
from madang.engines.echo import EchoEngine
from madang.models import Sources, Store
from madang.models.sources.ollama import OllamaSource
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.openapi import DEFAULT_PATH
from madang.server.pulls import Pulls
from tests.conftest import ROOT
from tests.models.registry import Registry
from tests.server.doubles import Letters
from tests.server.ollama.conftest import Named

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 12  # for each of some 30 operations
DOCUMENT = schemathesis.openapi.from_dict(json.loads((ROOT / DEFAULT_PATH).read_text(encoding="utf-8")))


class Nobody:
    """No hub and no package index."""

    def fetch(self, *_: object) -> None:
        raise AssertionError("a request went out")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """The application, which takes ``localhost`` for the host of every request."""
    home = tmp_path_factory.mktemp("home")
    pool = Named({"echo": EchoEngine(context_tokens=200), "letters": Letters()})
    app = create_app(ServerState(pool=pool, store=Store(home), settings=load_settings({"home": home}, {})))

    async def at_home(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "headers": [*kept, (b"host", b"localhost")]}
        await app(scope, receive, send)

    with Registry().running() as registry:
        sources = Sources(registry=OllamaSource(registry.url), hub=Nobody(), packages=Nobody())  # type: ignore[arg-type]
        app.state.pulls = Pulls(Store(home), sources)
        yield at_home
    assert pool.n_leases == 0
    assert not [path for path in Path(home).rglob("*") if path.is_file() and not made_by_itself(path)]


def made_by_itself(path: Path) -> bool:
    """Locks, and the database that requests are noted in."""
    return path.suffix == ".lock" or path.stem == "madang"


@DOCUMENT.parametrize()
@seed(20260701)
@settings(
    max_examples=EXAMPLES,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_answered_with_a_fault(server: object, case: schemathesis.Case) -> None:  # type: ignore[name-defined]
    if isinstance(case.body, dict) and case.body.get("model") not in (None, "letters"):
        case.body["model"] = "letters" if "embed" in case.path or "rerank" in case.path else "echo"
    response = case.call(app=server)
    assert response.status_code < 500, (case.as_curl_command(), response.text)
    if response.status_code >= 400:
        assert "application/json" in response.headers["content-type"], response.text
