"""The page as files: who gets it, how it is kept and packed, and that no API is hidden behind it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Scope

from madang.server import webpage
from madang.server.webpage import FOLDER, PageLayer, is_built, is_page

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST_SCRIPT_BYTES = 300_000
FIRST_SCREEN = "src/screens/chat/index.tsx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page as a build leaves it."""
    assets = tmp_path / "page" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text('<meta nonce="__NONCE__"><script src="/assets/a-1.js"></script>')
    (assets.parent / "favicon.svg").write_text("<svg/>")
    (assets.parent / "manifest.json").write_text("{}")
    (assets / "a-1.js").write_text("plain")
    (assets / "a-1.js.gz").write_bytes(gzip.compress(b"plain"))
    (assets / "b-1.css").write_text("b{}")
    (assets / ".hidden").write_text("hidden")
    (tmp_path / "secret.txt").write_text("secret")
    return assets.parent


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    api = [
        Route(path, lambda _: PlainTextResponse("an API")) for path in ("/", "/models", "/models/{name}", "/v1/models")
    ]
    app = Starlette(routes=api)
    app.add_middleware(PageLayer, folder=folder)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/chat", "/chat/ses_1", "/models", "/models/a:1b", "/settings"])
def test_a_browser_gets_the_page_and_a_program_its_api(client: TestClient, path: str) -> None:
    page = client.get(path, headers=BROWSER)
    assert page.status_code == 200 and "<script src=" in page.text
    assert page.headers["cache-control"] == "no-cache" and page.headers["vary"] == "Accept"
    assert client.head(path, headers=BROWSER).status_code == 200
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert "<script" not in client.get(path, headers=accept).text


def test_paths_of_no_screen_and_other_methods_stay_with_the_api(client: TestClient) -> None:
    assert client.get("/v1/models", headers=BROWSER).text == "an API"
    assert client.get("/madang", headers=BROWSER).status_code == 404
    assert client.post("/models", headers=BROWSER).status_code == 405
    assert client.post("/assets/a-1.js").status_code == 404


def test_each_visit_has_a_number_that_its_policy_names(client: TestClient) -> None:
    seen = set()
    for _ in range(3):
        page = client.get("/", headers=BROWSER)
        nonce = re.search(r'nonce="([\w-]{20,})"', page.text)
        assert nonce is not None
        policy = page.headers["content-security-policy"]
        assert f"'nonce-{nonce[1]}'" in policy
        seen.add(nonce[1])
    assert len(seen) == 3


def test_the_policy_allows_nothing_from_elsewhere_and_no_frames(client: TestClient) -> None:
    page = client.get("/", headers=BROWSER)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    for answer in (page, client.get("/assets/a-1.js"), client.get("/assets/none.js")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


def test_assets_are_kept_for_ever_and_come_packed(client: TestClient) -> None:
    packed = client.get("/assets/a-1.js", headers={"Accept-Encoding": "gzip, deflate"})
    assert packed.headers["content-encoding"] == "gzip" and packed.text == "plain"
    assert packed.headers["content-type"].startswith("text/javascript")
    assert "immutable" in packed.headers["cache-control"] and packed.headers["vary"] == "Accept-Encoding"
    plain = client.get("/assets/a-1.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == "plain"
    assert client.get("/assets/b-1.css").headers["content-type"].startswith("text/css")
    assert client.get("/favicon.svg").headers["cache-control"] == "no-cache"
    assert client.head("/assets/a-1.js").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["../secret.txt", "../../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", ".hidden", "", "a/../../index.html"],
)
def test_nothing_outside_of_the_assets_is_served(client: TestClient, path: str) -> None:
    answer = client.get(f"/assets/{path}")
    assert answer.status_code == 404 and "secret" not in answer.text and "hidden" not in answer.text


def test_a_checkout_without_a_page_says_how_to_build_it(tmp_path: Path) -> None:
    app = Starlette()
    app.add_middleware(PageLayer, folder=tmp_path)
    with TestClient(app, base_url="http://localhost") as client:
        page = client.get("/", headers=BROWSER)
        assert page.status_code == 200 and "make page" in page.text
        assert client.get("/assets/a-1.js").status_code == 404


def test_screens_here_are_those_of_the_page() -> None:
    source = Path(webpage.__file__).parents[3] / "web" / "src" / "app" / "screens.tsx"
    if not source.is_file():
        pytest.skip("the page's source is not here")
    assert set(re.findall(r'import\("@/screens/(\w+)"\)', source.read_text("utf-8"))) == webpage.SCREENS


def test_only_what_a_browser_asks_is_public() -> None:
    def scope(method: str, path: str, accept: str) -> Scope:
        return {"type": "http", "method": method, "path": path, "headers": [(b"accept", accept.encode())]}

    assert is_page(scope("GET", "/models", "text/html"))
    assert not is_page(scope("GET", "/models", "application/json"))
    assert not is_page(scope("POST", "/models", "text/html"))
    assert not is_page(scope("GET", "/v1/models", "text/html"))
    assert not is_page(scope("GET", "/madang/v1/sessions", "text/html"))
    assert not is_page({"type": "websocket", "path": "/", "headers": []})


def test_the_first_screen_loads_little() -> None:
    if not is_built():
        pytest.skip("the page is not built: make page")
    manifest = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    scripts, waiting = set[str](), ["index.html", FIRST_SCREEN]
    while waiting:
        part = manifest[waiting.pop()]
        if part["file"] not in scripts:
            scripts.add(part["file"])
            waiting += part.get("imports", [])
    packed = {name: len(gzip.compress((FOLDER / name).read_bytes(), 9)) for name in scripts}
    assert sum(packed.values()) < MOST_SCRIPT_BYTES, packed
