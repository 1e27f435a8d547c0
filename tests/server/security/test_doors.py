"""Host, Origin and key on every route of the real application, on every kind of address."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from madang.server import ServerState
from madang.server.app import create_app
from madang.server.keys import KeyFile
from madang.server.security import PUBLIC_PATHS, SecurityConfig
from tests.server.security.routes import Operation, operations

BINDS = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "192.168.1.5")
STRANGE_HOSTS = ("evil.example", "evil.example:11434", "localhost.evil.example", "127.0.0.1.evil.example", "")
STRANGE_ORIGINS = ("https://evil.example", "null", "http://localhost:3000", "http://evil.localhost.example")

FORMS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda secret: {"Authorization": f"Bearer {secret}"},
    "bare": lambda secret: {"Authorization": secret},
    "x-api-key": lambda secret: {"x-api-key": secret},
    "api-key": lambda secret: {"api-key": secret},
    "basic": lambda secret: {"Authorization": "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()},
}


@pytest.fixture(params=BINDS)
def bound(request: pytest.FixtureRequest, state: ServerState, keys: KeyFile) -> FastAPI:
    """The application as it is on an address, with a key where one is needed."""
    keys.add("one", may_manage=True)
    return create_app(replace(state, security=SecurityConfig(keys, request.param)))


def test_no_host_and_no_page_of_others_on_any_address(bound: FastAPI) -> None:
    client = TestClient(bound, base_url="http://localhost", raise_server_exceptions=False)
    for route in operations(bound):
        for host in STRANGE_HOSTS:
            assert route.send(client, headers={"Host": host}).status_code == 403, (str(route), host)
        for origin in STRANGE_ORIGINS:
            answer = route.send(client, headers={"Origin": origin})
            assert answer.status_code == 403, (str(route), origin)
            assert not [name for name in answer.headers if name.startswith("access-control")], str(route)
        refused = route.send(client).status_code == 401
        assert refused == (route.path not in PUBLIC_PATHS), str(route)


@pytest.mark.parametrize("form", FORMS)
def test_every_header_of_a_key_is_one_decision_on_every_route(
    client: TestClient, keys: KeyFile, routes: list[Operation], form: str
) -> None:
    secret = keys.add("one", may_manage=True)
    for route in routes:
        if route.path in PUBLIC_PATHS or "pull" in route.path:  # what is pulled goes out to a registry
            continue
        assert route.send(client, headers=FORMS[form](secret + "x")).status_code == 401, str(route)
        other = {**FORMS[form](secret), "x-api-key": "md-other"} if form != "x-api-key" else {}
        if other:  # a second header neither adds to the first nor goes around it
            assert route.send(client, headers=other).status_code == 401, str(route)
        assert route.send(client, headers=FORMS[form](secret)).status_code not in (401, 403), str(route)


@pytest.mark.parametrize("where", ["?api_key={}", "?key={}&token={}"])
def test_a_secret_in_the_query_opens_nothing(client: TestClient, keys: KeyFile, where: str) -> None:
    secret = keys.add("one")
    assert client.get("/api/tags" + where.replace("{}", secret)).status_code == 401
    assert client.get("/api/tags", cookies={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_the_page_is_for_everybody_and_what_it_shows_for_keys(client: TestClient, keys: KeyFile) -> None:
    secret = keys.add("one")
    for path in ("/models", "/models/echo", "/documents", "/chat/ses_1", "/"):
        page = client.get(path, headers={"Accept": "text/html"})
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html"), path
        assert "letters" not in page.text and secret not in page.text
    for accept in ("application/json", "*/*"):
        assert client.get("/models", headers={"Accept": accept}).status_code == 401
        assert client.get("/models", headers={"Accept": accept} | FORMS["bearer"](secret)).status_code == 200
    for path in ("/v1/models", "/madang/v1/models", "/madang/v1/collections", "/madang/v1/sessions"):
        assert client.get(path, headers={"Accept": "text/html"}).status_code == 401, path
