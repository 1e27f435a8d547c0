"""madang's own API over doubles and a real store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import SamplingParams
from madang.core.engine import EngineInfo
from madang.models import Manifest, ManifestFile, NameReference, Preset, Sources, Store, derive
from madang.models.sources.ollama import OllamaSource
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.keys import KeyFile
from madang.server.pulls import Pulls
from tests.models.registry import Registry
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint
from tests.server.doubles import Models

pytest.importorskip("gguf")

TINY = NameReference("tiny", "f32")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("tiny") / "tiny.gguf").path


@pytest.fixture
def store(state: ServerState, weights: Path) -> Store:
    """With one model, and one that is derived from it."""
    status = weights.stat()
    file = ManifestFile("tiny.gguf", status.st_size, None, str(weights), status.st_mtime_ns)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    state.store.commit(Manifest(TINY, "gguf", "test", (file,), moment, SamplingParams(temperature=0.5)))
    derive(state.store, TINY, NameReference("mario"), Preset(system="You are Mario.", stop=("END",)))
    return state.store


@pytest.fixture
def registry(state: ServerState, client: TestClient, weights: Path) -> Iterator[Registry]:
    with Registry({"model": weights.read_bytes()}).running() as registry:
        client.app.state.pulls = Pulls(state.store, Sources(registry=OllamaSource(registry.url)))  # type: ignore[attr-defined]
        yield registry


def got(client: TestClient, path: str, status: int = 200, method: str = "GET", **more: Any) -> Any:
    answer = client.request(method, f"/madang/v1{path}", **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_models(client: TestClient, store: Store) -> None:
    rows = {row["name"]: row for row in got(client, "/models")["models"]}
    assert set(rows) == {"tiny:f32", "mario:latest"}
    assert rows["tiny:f32"]["architecture"] == "llama"
    assert rows["tiny:f32"]["capabilities"] == ["completion"]
    assert rows["tiny:f32"]["parameters"] > 0


def test_one_model(client: TestClient, store: Store) -> None:
    document = got(client, "/models/mario")
    assert document["preset"]["parent"] == "tiny:f32"
    assert (document["preset"]["system"], document["preset"]["stop"]) == ("You are Mario.", ["END"])
    assert document["sampling"] == {"temperature": 0.5}
    assert document["metadata"]["general.architecture"] == "llama"
    assert document["files"][0]["digest"] is None
    error = got(client, "/models/nowhere:1b", 404)["error"]
    assert (error["code"], error["name"]) == ("model_not_found", "nowhere:1b")


def test_removing(client: TestClient, store: Store) -> None:
    assert got(client, "/models/mario", method="DELETE") == {"name": "mario:latest", "freed_bytes": 0}
    got(client, "/models/mario", 404, method="DELETE")
    assert [files.name for files in store.list()] == ["tiny:f32"]


@pytest.mark.parametrize("name", ["file:%2Fetc%2Fpasswd", "..%2F..%2Fetc", "%2Fetc%2Fpasswd", "a%2Fb%2Fc"])
def test_names_that_are_paths(client: TestClient, store: Store, name: str) -> None:
    for path in (f"/models/{name}", f"/plans/{name}"):
        assert got(client, path, 400)["error"]["code"] == "invalid_reference"
    assert len(store.list()) == 2


def test_a_plan_says_why(client: TestClient, store: Store) -> None:
    plan = got(client, "/plans/tiny:f32")
    choices = {choice["name"]: choice for choice in plan["choices"]}
    assert {"threads", "context_tokens", "precision", "kv_type", "speculation"} <= set(choices)
    assert all(choice["reason"] for choice in choices.values())
    assert (plan["engine"], bool(plan["engine_reason"])) == ("native", True)
    assert plan["memory"]["total_bytes"] > plan["memory"]["weights_bytes"] > 0


def test_the_catalog(client: TestClient, store: Store) -> None:
    rows = {row["name"]: row for row in got(client, "/catalog")["models"]}
    assert rows["smollm2:135m"]["task"] == "chat"
    assert rows["smollm2:135m"]["is_here"] is False


class Full(Models):
    """With a model in memory."""

    def resident(self) -> list[object]:
        return [
            SimpleNamespace(
                reference="echo",
                info=EngineInfo("echo", "echo", 200),
                size_bytes=9,
                loaded_at=datetime(2026, 1, 2, tzinfo=UTC),
                expires_at=None,
                n_leases=1,
                reason="It was asked for.",
            )
        ]


def test_what_is_in_memory(state: ServerState) -> None:
    with TestClient(create_app(replace(state, pool=Full({}))), base_url="http://localhost") as client:
        (row,) = got(client, "/resident")["models"]
        assert (row["name"], row["engine"], row["leases"], row["expires_at"]) == ("echo", "echo", 1, None)
        assert got(client, "/resident/nowhere", 404, "DELETE")["error"]["code"] == "model_not_found"


def test_the_machine_and_the_version(client: TestClient, state: ServerState) -> None:
    document = got(client, "/machine")
    assert document["machine"]["system"]
    assert {row["name"] for row in document["settings"]} >= {"home", "threads", "context"}
    assert "native" in [engine["name"] for engine in document["engines"]]
    assert got(client, "/version")["version"] == state.version


def test_a_pull_from_beginning_to_end(client: TestClient, registry: Registry, weights: Path) -> None:
    started = got(client, "/pulls", 202, "POST", json={"model": "someone/tiny"})
    assert (started["model"], started["error"]) == ("ollama:someone/tiny:latest", None)
    events = client.get(f"/madang/v1/pulls/{started['id']}/events")
    assert events.headers["content-type"] == "application/x-ndjson"
    states = [json.loads(line) for line in events.text.splitlines()]
    assert states[-1]["state"] == "done"
    assert states[-1]["completed_bytes"] == states[-1]["total_bytes"] == weights.stat().st_size
    assert got(client, f"/pulls/{started['id']}")["state"] == "done"
    assert [pull["id"] for pull in got(client, "/pulls")["pulls"]] == [started["id"]]


def test_a_pull_that_is_cancelled(client: TestClient, registry: Registry, state: ServerState) -> None:
    registry.gate = threading.Event()
    started = got(client, "/pulls", 202, "POST", json={"model": "tiny:1b"})
    assert got(client, "/pulls", 202, "POST", json={"model": "tiny:1b"})["id"] == started["id"]
    got(client, f"/pulls/{started['id']}", method="DELETE")
    registry.gate.set()
    assert until_over(client, started["id"])["state"] == "cancelled"
    assert state.store.list() == []


def test_a_pull_that_fails(client: TestClient, registry: Registry) -> None:
    started = got(client, "/pulls", 202, "POST", json={"model": "tiny:9b"})
    failed = until_over(client, started["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "model_not_found")


def until_over(client: TestClient, id: str) -> Any:
    deadline = time.monotonic() + 20
    while (state := got(client, f"/pulls/{id}"))["state"] in ("starting", "pulling"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return state


@pytest.mark.parametrize("body", [{}, {"model": 3}, {"model": ""}, {"model": "file:/etc/passwd"}, []])
def test_pulls_that_make_no_sense(client: TestClient, body: Any) -> None:
    assert "message" in got(client, "/pulls", 400, "POST", json=body)["error"]
    got(client, "/pulls/none", 404)
    got(client, "/pulls/none/events", 404)
    got(client, "/pulls/none", 404, "DELETE")


def test_a_file_of_another_program_that_is_gone(client: TestClient, state: ServerState, tmp_path: Path) -> None:
    lost = tmp_path / "lost.gguf"
    lost.write_bytes(b"GGUF")
    file = ManifestFile("m.gguf", 4, None, str(lost), lost.stat().st_mtime_ns)
    state.store.commit(Manifest(TINY, "gguf", "test", (file,), datetime(2026, 1, 2, tzinfo=UTC)))
    lost.unlink()
    answer = client.get("/madang/v1/models/tiny:f32")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "The file of this model is gone since it was imported."
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("address", ["https://127.0.0.1:1/m.gguf", "http://127.0.0.1:1/m.gguf"])
def test_addresses_are_not_fetched_for_clients(client: TestClient, store: Store, address: str) -> None:
    for url in ("/madang/v1/pulls", "/api/pull"):
        answer = client.post(url, json={"model": address})
        assert answer.status_code == 400
        assert "fetches no addresses" in answer.text


def test_both_apis_tell_the_same_of_a_download(client: TestClient, registry: Registry) -> None:
    ours = [json.loads(line) for line in follow(client)]
    registry.layers["system"] = b"another one"
    client.delete("/madang/v1/models/ollama:tiny:1b")
    theirs = [json.loads(line) for line in client.post("/api/pull", json={"model": "tiny:1b"}).text.splitlines()]
    last = [line for line in theirs if "completed" in line][-1]
    assert (ours[-1]["completed_bytes"], ours[-1]["total_bytes"]) == (last["completed"], last["total"])
    assert (ours[-1]["state"], theirs[-1]["status"]) == ("done", "success")


def follow(client: TestClient) -> list[str]:
    started = got(client, "/pulls", 202, "POST", json={"model": "tiny:1b"})
    return client.get(f"/madang/v1/pulls/{started['id']}/events").text.splitlines()


# ---- tokens


def test_a_text_in_tokens(client: TestClient, store: Store) -> None:
    body = {"text": "가a", "models": ["tiny:f32", "mario"]}
    found = got(client, "/tokens", method="POST", json=body)
    assert found["n_characters"] == 2
    assert [one["name"] for one in found["models"]] == ["tiny:f32", "mario:latest"]
    first = found["models"][0]
    assert first["n_tokens"] == len(first["tokens"]) == 4
    assert (first["tokens_per_letter"], first["context_share"]) == ({"korean": 3.0, "english": 1.0}, 4 / 1024)
    assert first["tokens"][0] == {"id": 237, "text": "<0xEA>", "start": 0, "end": 1, "is_control": False}
    special = got(client, "/tokens", method="POST", json=body | {"special": True})["models"][0]
    assert special["tokens"][0]["is_control"] and special["tokens"][0]["end"] == 0


def test_tokens_that_are_refused(client: TestClient, store: Store) -> None:
    for body in (
        {"text": "a" * 20_001, "models": ["tiny:f32"]},
        {"text": "a", "models": []},
        {"text": "a", "models": ["tiny:f32"] * 9},
        {"text": "a", "models": ["file:/etc/passwd"]},
        {"text": "a", "models": ["tiny:f32"], "wrong": 1},
    ):
        got(client, "/tokens", 400, method="POST", json=body)
    for name in ("nothing:1b", "hf:org/repo", "smollm2:135m"):  # the last comes in one piece with its weights
        got(client, "/tokens", 404, method="POST", json={"text": "a", "models": [name]})


def test_who_may_not_fetch_has_no_tokenizer_fetched(client: TestClient, store: Store, state: ServerState) -> None:
    keys = KeyFile(state.settings.home)
    headers = {"Authorization": f"Bearer {keys.add('user')}"}
    body = {"text": "a", "models": ["qwen3:0.6b"]}
    assert client.post("/madang/v1/tokens", json=body, headers=headers).status_code == 403
    body = {"text": "a", "models": ["tiny:f32"]}
    assert client.post("/madang/v1/tokens", json=body, headers=headers).status_code == 200


# ---- the catalog on this machine


def test_the_catalog_says_what_fits(client: TestClient, store: Store) -> None:
    found = got(client, "/catalog")
    rows = {row["name"]: row for row in found["models"]}
    assert rows["qwen3:0.6b"]["forecast"]["is_exact"] is True
    assert rows["qwen3:0.6b"]["forecast"]["fits"] in ("yes", "tight", "no")
    assert rows["qwen3:0.6b"]["forecast"]["tokens_per_s"] is None and "doctor" in found["speed_is"]
    assert "Q4_K_M" in rows["llama2:7b"]["types"]


def test_recommendations(client: TestClient, store: Store) -> None:
    found = got(client, "/recommendations?task=한국어&memory_bytes=8000000000&limit=3&license=commercial")
    assert found["task"] == "korean" and len(found["models"]) == 3 and found["left_out"]["memory"] > 0
    first = found["models"][0]
    assert first["memory_bytes"] <= 8_000_000_000 and first["reasons"] and first["steps"]
    assert first["commercial"] in ("yes", "conditions")
    assert got(client, "/recommendations?memory_bytes=1")["models"] == []
    assert got(client, "/recommendations")["memory_bytes"] > 0
    for wrong in ("task=cooking", "license=beer", "limit=0", "limit=1e9", "memory_bytes=-1", "speed_tokens_s=nan"):
        assert got(client, f"/recommendations?{wrong}", 400)["error"]["message"]
