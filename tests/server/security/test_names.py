"""Names, digests and paths from outside: in the path, the query and every field of the body, on every route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from madang.models import Sources
from madang.models.sources.ollama import OllamaSource
from madang.server import ServerState
from madang.server.pulls import Pulls
from tests.models.registry import Registry
from tests.server.security.routes import Operation

SECRET = "what lies outside of the store"
HEX = "0" * 64
NAMES = (
    "../../outside/secret",
    "../../outside/secret.gguf",
    "..%2f..%2foutside%2fsecret",
    "%2e%2e/%2e%2e/outside/secret",
    "%252e%252e%252foutside",
    "..\\..\\outside\\secret",
    "....//....//outside/secret",
    "{outside}/secret",
    "file:{outside}/secret",
    "file://{outside}/secret",
    "file:../../outside/secret",
    "~/../outside/secret",
    "echo:../../outside",
    "../echo:latest",
    "hf:../../outside",
    "hf:org/repo/../../../outside/secret",
    "hf:org/repo@../../outside",
    "hf.co/../../outside",
    "ollama:../outside/secret",
    "ollama:library/..:secret",
    "pypi:../../outside",
    "pypi:--target=/tmp",
    "remote:file://{outside}/secret",
    "registry.ollama.ai/../../outside",
    "http://127.0.0.1:1/outside",
    "https://127.0.0.1:1/outside.gguf",
    "a\x00b",
    "a\nb",
    "con",
    "x" * 5000,
)
DIGESTS = (
    f"sha256:{HEX}/../../../outside/secret",
    f"sha256:..{HEX[2:]}",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX[:-1]}g",
    f"sha512:{HEX}",
    f"SHA256:{HEX}",
    f"sha256-{HEX}\n",
    f"sha256:{HEX}\x00",
    "sha256:../../../outside/secret",
    "other",
)


@pytest.fixture
def outside(tmp_path: Path, app: FastAPI, state: ServerState) -> Any:
    """What no request may reach, beside the store; and a registry that says where pulls go out to."""
    folder = tmp_path.parent / f"{tmp_path.name}-outside"
    folder.mkdir()
    for name in ("secret", "secret.gguf", "secret.json"):
        (folder / name).write_text(SECRET, encoding="utf-8")
    with Registry().running() as registry:
        app.state.pulls = Pulls(state.store, Sources(registry=OllamaSource(registry.url), hub=Nobody()))
        yield folder


class Nobody:
    """No hub."""

    def fetch(self, *_: object) -> Any:
        raise AssertionError("a hostile name went out to the hub")


def tree(*folders: Path) -> dict[Path, bytes]:
    """All files but the database, which has one name and no other."""
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found if path.stem != "madang"}


@pytest.mark.parametrize("value", [*NAMES, *DIGESTS], ids=range(len(NAMES) + len(DIGESTS)))
def test_nothing_outside_is_read_or_written(
    client: TestClient, routes: list[Operation], outside: Path, tmp_path: Path, value: str
) -> None:
    value = value.replace("{outside}", str(outside))
    before = tree(tmp_path, outside)
    for route in routes:
        answers = [route.send(client, url=route.url(value, safe=safe)) for safe in ("/:%", "") if route.parameters]
        for field in route.fields:
            shapes: tuple[Any, ...] = (value,)
            if field in ("files", "adapters", "input", "documents", "stop"):
                shapes = (value, [value], {value: value}, {"model.gguf": value})
            answers += [route.send(client, json=route.body(**{"stream": False, field: shape})) for shape in shapes]
        if route.method == "POST" and "{digest}" in route.path:
            answers.append(client.post(route.url(value), content=b"GGUF"))
        for answer in answers:
            assert answer.status_code < 500, (str(route), answer.text)
            # A sentence may repeat the name that was asked for, never what lies there.
            assert SECRET not in answer.text, str(route)
            if str(route) == "GET /madang/v1/machine":
                continue  # it tells managers where the store is
            assert str(tmp_path) not in answer.text.replace(json.dumps(value)[1:-1], "").replace(value, ""), str(route)
    after = tree(tmp_path, outside)
    assert {path: after[path] for path in before} == before
    assert all(path.suffix == ".lock" and tmp_path in path.parents for path in after.keys() - before.keys())


@pytest.mark.parametrize("digest", DIGESTS)
def test_what_is_no_digest_is_no_blob(client: TestClient, outside: Path, digest: str) -> None:
    (route,) = (f"/api/blobs/{digest}",)
    assert client.post("/api/create", json={"model": "new", "files": {"m.gguf": digest}}).status_code == 400
    assert client.post("/api/create", json={"model": "n", "from": "a", "adapters": {"a": digest}}).status_code >= 400
    if not set(digest) & set("\n\x00"):
        assert client.post(route, content=b"GGUF").status_code in (400, 404, 405)
        assert client.head(route).status_code in (400, 404, 405)
