"""What a key may do: which routes change the server, and that what belongs to others is not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from madang.models import FileReference, Manifest, ManifestFile, Store, parse_reference
from madang.server import ServerState
from madang.server.keys import KeyFile
from madang.server.pulls import Pull
from tests.server.ollama.conftest import Named
from tests.server.security.conftest import bearer
from tests.server.security.routes import Operation

# Every route stands in one of the two, so that a new one is decided about.
MANAGE = {
    "POST /api/pull",
    "POST /api/create",
    "POST /api/copy",
    "DELETE /api/delete",
    "HEAD /api/blobs/{digest}",
    "POST /api/blobs/{digest}",
    "DELETE /madang/v1/models/{name:path}",
    "DELETE /madang/v1/resident/{name:path}",
    "POST /madang/v1/pulls",
    "POST /madang/v1/resident",
    "DELETE /madang/v1/pulls/{id}",
    "GET /madang/v1/machine",
    "POST /madang/v1/collections/{name}/documents",
    "POST /madang/v1/comparisons",
    "DELETE /madang/v1/comparisons/{id}",
}
USE = {
    "GET /openapi.json",
    "HEAD /openapi.json",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    *(f"{method} {path}" for path in ("/", "/api/version", "/api/tags", "/api/ps") for method in ("GET", "HEAD")),
    *(f"{method} {path}" for path in ("/health", "/ready") for method in ("GET", "HEAD")),
    *(f"POST /api/{name}" for name in ("show", "chat", "generate", "embed", "embeddings", "push")),
    *(f"GET /madang/v1/{name}" for name in ("models", "models/{name:path}", "catalog", "plans/{name:path}")),
    *(f"GET /madang/v1/{name}" for name in ("resident", "pulls", "pulls/{id}", "pulls/{id}/events", "version")),
    *(f"{method} /madang/v1/sessions" for method in ("GET", "POST")),
    *(f"{method} /madang/v1/sessions/{{id}}" for method in ("GET", "POST", "DELETE")),
    *(f"POST /madang/v1/sessions/{path}" for path in ("import", "{id}/messages", "{id}/branch")),
    "GET /madang/v1/sessions/{id}/export",
    *(f"{method} /madang/v1/personas" for method in ("GET", "POST")),
    *(f"{method} /madang/v1/personas/{{name}}" for method in ("GET", "DELETE")),
    *(f"{method} /madang/v1/collections" for method in ("GET", "POST")),
    *(f"{method} /madang/v1/collections/{{name}}" for method in ("GET", "DELETE")),
    "GET /madang/v1/collections/{name}/documents",
    "PUT /madang/v1/collections/{name}/documents/{filename}",
    *(f"{method} /madang/v1/collections/{{name}}/documents/{{id}}" for method in ("GET", "DELETE")),
    "GET /madang/v1/collections/{name}/chunks/{id}",
    "POST /madang/v1/collections/{name}/search",
    *(f"GET /madang/v1/ingests{end}" for end in ("", "/{id}", "/{id}/events")),
    "DELETE /madang/v1/ingests/{id}",
    "GET /madang/v1/runs",
    "POST /madang/v1/tokens",
    "GET /madang/v1/recommendations",
    *(f"GET /madang/v1/comparisons{end}" for end in ("", "/{id}")),
    "GET /metrics",
    "GET /madang/v1/metrics",
    "GET /madang/v1/requests",
    *(
        f"{start}{path}"
        for path in (
            "/chat/completions",
            "/completions",
            "/responses",
            "/embeddings",
            "/rerank",
            "/tokenize",
            "/detokenize",
        )
        for start in ("POST ", "POST /v1")
    ),
    *(
        f"POST {prefix}/{path}"
        for path in ("chat/completions/input_tokens", "responses/input_tokens", "apply-template")
        for prefix in ("", "/v1")
    ),
    *(f"GET {prefix}/models{end}" for prefix in ("", "/v1") for end in ("", "/{name:path}")),
}


def test_every_route_is_for_users_or_for_managers(routes: list[Operation]) -> None:
    assert not MANAGE & USE
    assert {str(route) for route in routes} == MANAGE | USE


def test_a_key_uses_models_and_changes_none(client: TestClient, keys: KeyFile, routes: list[Operation]) -> None:
    headers = bearer(keys.add("user"))
    for route in routes:
        answer = route.send(client, headers=headers)
        assert (answer.status_code == 403) == (str(route) in MANAGE), (str(route), answer.text)
        if str(route) in MANAGE and route.method != "HEAD":
            assert "keys add NAME --manage" in answer.text


def test_a_managing_key_and_a_machine_without_keys_may(client: TestClient, keys: KeyFile, tmp_path: Path) -> None:
    asked = ("DELETE", "/madang/v1/models/nowhere:1b")
    assert client.request(*asked).status_code == 404
    headers = bearer(keys.add("owner", may_manage=True))
    assert client.request(*asked, headers=headers).status_code == 404
    assert client.request(*asked).status_code == 401


@pytest.fixture
def scoped(client: TestClient, keys: KeyFile) -> dict[str, str]:
    """A key for one model only, which may do all to that."""
    return bearer(keys.add("one", models=["echo:*"], may_manage=True))


@pytest.mark.parametrize("other", ["letters", "letters:latest", "ollama:letters", "hf:org/letters", "someone/echo"])
def test_what_is_not_for_a_key_is_not_there_on_any_route(
    client: TestClient, state: ServerState, scoped: dict[str, str], routes: list[Operation], *, pool: Named, other: str
) -> None:
    """The answer is the same for a model that exists, in the store and in memory, and for one that does not."""
    keep(state.store, "letters:latest")
    keep(state.store, "ollama:letters:latest")
    for route in routes:
        for field in ("model", "name", "source", "destination", "from"):
            if field not in route.fields and field not in route.parameters:
                continue
            if any(f"/{own}" in route.path for own in ("sessions", "personas", "collections")):
                continue  # a name in them is no model's, or a wish for later requests, each of which is looked at
            told = []
            for name in (other, other.replace("letters", "nothing").replace("someone", "nobody")):
                more = {} if field in route.parameters else {"json": route.body(**{field: name})}
                answer = route.send(client, url=route.url(name), headers=scoped, **more)
                told.append((answer.status_code, answer.text.replace(name, "?")))
            assert told[0][0] in (400, 404) and "Traceback" not in told[0][1], (str(route), field, told)
            assert told[0][0] == told[1][0], (str(route), field, told)
    assert {reference for reference, _ in pool.leased} <= {"echo", "echo:latest"}
    assert not {reference for reference in pool.unloaded if "letters" in reference}
    assert len(state.store.list()) == 2
    for path in ("/v1/models", "/api/tags", "/madang/v1/models"):
        assert "letters" not in client.get(path, headers=scoped).text


def keep(store: Store, name: str) -> None:
    """A model of that name in the store."""
    file = store.root.parent / f"{name.replace(':', '-')}.gguf"
    file.write_bytes(b"GGUF")
    reference, status = parse_reference(name), file.stat()
    assert not isinstance(reference, FileReference)
    weights = ManifestFile("model.gguf", status.st_size, path=str(file), modified_ns=status.st_mtime_ns)
    store.commit(Manifest(reference, "gguf", "test", (weights,), datetime.now(UTC)))


def test_only_who_may_unload_says_how_long_models_stay(client: TestClient, keys: KeyFile, pool: Named) -> None:
    user, owner = bearer(keys.add("user")), bearer(keys.add("owner", may_manage=True))
    said = {"model": "echo", "messages": [{"role": "user", "content": "a"}], "stream": False, "keep_alive": 0}
    answer = client.post("/api/chat", json=said, headers=user)
    assert "keep_alive" in answer.json()["madang"]["warnings"][0]
    assert "warnings" not in client.post("/api/chat", json=said, headers=owner).json()["madang"]
    assert [kept_s for _, kept_s in pool.leased] == [None, 0]
    for path, body in (("/api/generate", {"model": "echo"}), ("/api/embed", {"model": "letters", "input": []})):
        assert client.post(path, json=body | {"keep_alive": 0}, headers=user).status_code == 403
        assert client.post(path, json=body | {"keep_alive": 0}, headers=owner).status_code == 200
    assert len(pool.unloaded) == 2


def test_a_model_is_loaded_on_purpose(client: TestClient, keys: KeyFile, pool: Named) -> None:
    owner = bearer(keys.add("owner", may_manage=True))
    body = {"model": "echo", "keep_alive_s": -1}
    found = client.post("/madang/v1/resident", json=body, headers=owner).json()
    assert (found["name"], found["engine"]) == ("echo:latest", "echo")
    assert pool.leased == [("echo", -1)]
    assert client.post("/madang/v1/resident", json={"model": "nothing:1b"}, headers=owner).status_code == 404


def test_lists_have_what_is_for_the_key(client: TestClient, scoped: dict[str, str]) -> None:
    rows: Any = client.get("/api/ps", headers=scoped).json()["models"]
    assert [row["name"] for row in rows] == ["echo:latest"]
    rows = client.get("/madang/v1/resident", headers=scoped).json()["models"]
    assert [row["name"] for row in rows] == ["echo:latest"]
    assert [row["model"] for row in client.get("/madang/v1/metrics", headers=scoped).json()["resident"]] == [
        "echo:latest"
    ]


def test_downloads_of_others_are_not_there(client: TestClient, app: FastAPI, keys: KeyFile) -> None:
    mine, theirs = bearer(keys.add("mine", models=["a:*"], may_manage=True)), bearer(keys.add("theirs", models=["b:*"]))
    reference = parse_reference("a:1b")
    assert not isinstance(reference, FileReference)
    job = Pull("pull-1", reference)
    app.state.pulls._pulls[job.id] = job
    assert [pull["id"] for pull in client.get("/madang/v1/pulls", headers=mine).json()["pulls"]] == ["pull-1"]
    assert client.get("/madang/v1/pulls", headers=theirs).json()["pulls"] == []
    for path in ("/madang/v1/pulls/pull-1", "/madang/v1/pulls/pull-1/events"):
        assert client.get(path, headers=theirs).status_code == 404
    manager = bearer(keys.add("manager", models=["b:*"], may_manage=True))
    assert client.delete("/madang/v1/pulls/pull-1", headers=manager).status_code == 404
    assert not job.is_cancelled
    assert client.delete("/madang/v1/pulls/pull-1", headers=mine).status_code == 200
    assert job.is_cancelled


def test_metrics_of_all_models_are_for_keys_of_all_models(client: TestClient, keys: KeyFile) -> None:
    narrow, wide = bearer(keys.add("narrow", models=["echo:*"])), bearer(keys.add("wide"))
    for headers in (narrow, wide):
        body = {"model": "echo", "messages": [{"role": "user", "content": "a"}]}
        assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    client.post("/v1/embeddings", json={"model": "letters", "input": "a"}, headers=wide)
    assert client.get("/metrics", headers=narrow).status_code == 403
    assert 'key="narrow"' in client.get("/metrics", headers=wide).text
    assert client.get("/madang/v1/metrics", headers=narrow).json()["models"].keys() == {"echo:latest"}
