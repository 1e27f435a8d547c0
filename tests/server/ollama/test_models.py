"""Models that are listed, shown, pulled, made, copied and deleted, in a real store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core.engine import Loaded
from madang.models import Sources, Store
from madang.models.sources.ollama import OllamaSource
from madang.server import ServerState
from madang.server.pulls import Pulls
from tests.models.registry import Registry
from tests.models.standins import sha256
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint
from tests.server.doubles import Scripted, done
from tests.server.ollama.conftest import Named, lines

pytest.importorskip("gguf")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiny GGUF file."""
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("tiny") / "tiny.gguf").path.read_bytes()


@pytest.fixture
def registry(weights: bytes, state: ServerState, client: TestClient) -> Iterator[Registry]:
    """A registry that the server pulls from."""
    layers = {"model": weights, "system": b"Be brief.", "params": b'{"temperature": 0.5, "stop": ["END"]}'}
    with Registry(layers).running() as registry:
        client.app.state.pulls = Pulls(state.store, Sources(registry=OllamaSource(registry.url)))  # type: ignore[attr-defined]
        yield registry


@pytest.fixture
def tiny(client: TestClient, registry: Registry) -> str:
    """The name of a model in the store."""
    assert lines(client.post("/api/pull", json={"model": "tiny:1b"}))[-1] == {"status": "success"}
    return "tiny:1b"


def shown(client: TestClient, name: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/show", json={"model": name, **fields})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def names(client: TestClient) -> set[str]:
    return {row["model"] for row in client.get("/api/tags").json()["models"]}


def test_pulling(client: TestClient, registry: Registry, weights: bytes) -> None:
    wire = lines(client.post("/api/pull", json={"model": "tiny:1b", "insecure": True}))
    assert wire[0]["status"] == "pulling manifest"
    assert "insecure" in wire[0]["madang"]["warnings"][0]
    assert wire[-4]["status"] == f"pulling {wire[-4]['digest'][7:19]}"
    assert wire[-4]["total"] == wire[-4]["completed"] == len(weights)
    assert [line["status"] for line in wire[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert client.post("/api/pull", json={"name": "tiny:1b", "stream": False}).json() == {"status": "success"}
    assert names(client) == {"tiny:1b"}


def test_pulling_what_is_not_there(client: TestClient, registry: Registry) -> None:
    wire = lines(client.post("/api/pull", json={"model": "tiny:9b"}))
    assert "not found" in wire[-1]["error"]
    whole = client.post("/api/pull", json={"model": "tiny:9b", "stream": False})
    assert (whole.status_code, "not found" in whole.json()["error"]) == (404, True)
    assert client.post("/api/pull", json={"model": "file:/etc/passwd"}).status_code == 400


def test_two_clients_share_a_download(client: TestClient, registry: Registry, weights: bytes) -> None:
    registry.gate = threading.Event()
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/api/pull", json={"model": "tiny:1b"})))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    pulls: Pulls = client.app.state.pulls  # type: ignore[attr-defined]
    wait_until(lambda: [pull.n_wanting for pull in pulls.list()] == [2])
    registry.gate.set()
    for thread in threads:
        thread.join(20)
    assert [lines(answer)[-1]["status"] for answer in answers] == ["success", "success"]
    assert sum(sha256(weights) in path for path, _ in registry.requests) == 1


def test_the_last_one_to_leave_ends_a_download(state: ServerState, registry: Registry, client: TestClient) -> None:
    from madang.models import OllamaReference

    registry.gate = threading.Event()
    pulls: Pulls = client.app.state.pulls  # type: ignore[attr-defined]
    reference = OllamaReference("tiny", "1b")
    with pulls.wanting(reference) as first:
        with pulls.wanting(reference) as second:
            assert first is second
        assert not first.is_cancelled
    assert first.is_cancelled
    registry.gate.set()
    wait_until(lambda: first.progress.is_over)
    assert first.progress.state == "cancelled"
    assert state.store.list() == []


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_list(client: TestClient, tiny: str) -> None:
    (row,) = client.get("/api/tags").json()["models"]
    assert row["name"] == row["model"] == tiny
    assert (row["details"]["family"], row["details"]["format"]) == ("llama", "gguf")
    assert row["details"]["quantization_level"]
    assert row["capabilities"] == ["completion"]
    assert len(bytes.fromhex(row["digest"])) == 32


def test_showing(client: TestClient, tiny: str) -> None:
    document = shown(client, tiny)
    assert (document["system"], document["parameters"].split()) == (
        "Be brief.",
        ["temperature", "0.5", "stop", '"END"'],
    )
    assert document["model_info"]["general.architecture"] == "llama"
    assert document["model_info"]["llama.context_length"] > 0
    assert document["model_info"]["general.parameter_count"] > 0
    assert "FROM tiny:1b" in document["modelfile"]
    assert "tensors" not in document
    assert shown(client, tiny, verbose=True)["tensors"]
    assert None not in document.values()
    missing = client.post("/api/show", json={"model": "tiny:9b"})
    assert (missing.status_code, "not found" in missing.json()["error"]) == (404, True)


def test_a_model_made_from_another(client: TestClient, tiny: str, pool: Named) -> None:
    body = {
        "model": "mario",
        "from": tiny,
        "system": "You are Mario.",
        "parameters": {"temperature": 0, "num_ctx": 64, "num_gpu": 1},
        "messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}],
        "license": ["MIT", "or not"],
    }
    wire = lines(client.post("/api/create", json=body))
    assert wire[-1]["status"] == "success"
    assert "num_gpu" in wire[-1]["madang"]["warnings"][0]
    document = shown(client, "mario")
    assert (document["system"], document["license"]) == ("You are Mario.", "MIT\nor not")
    assert document["details"]["parent_model"] == tiny
    assert document["messages"] == body["messages"]
    assert "temperature                    0\n" in document["parameters"]
    assert '"END"' in document["parameters"]  # its parent's
    engine = pool.models["mario"] = Scripted(done())
    client.post("/api/chat", json={"model": "mario", "messages": [{"role": "user", "content": "hi"}]})
    (request,) = engine.requests  # type: ignore[attr-defined]
    assert [message.content for message in request.messages] == ["You are Mario.", "who?", "me", "hi"]
    assert (request.sampling.temperature, request.context_tokens, request.stop) == (0, 64, ("END",))
    for route in ("/v1/chat/completions", "/v1/messages"):  # the same model to clients of other APIs
        body = {"model": "mario", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        assert client.post(route, json=body).status_code == 200
        assert [message.content for message in engine.requests[-1].messages] == ["You are Mario.", "who?", "me", "hi"]  # type: ignore[attr-defined]
        assert engine.requests[-1].sampling.temperature == 0  # type: ignore[attr-defined]


def test_what_a_request_brings_goes_before_what_a_model_brings(client: TestClient, tiny: str, pool: Named) -> None:
    engine = Scripted(done())
    models: dict[str, Loaded] = {"ollama:tiny:1b": engine}
    pool.models.update(models)
    messages = [{"role": "system", "content": "Own."}, {"role": "user", "content": "hi"}]
    client.post("/api/chat", json={"model": tiny, "messages": messages, "options": {"stop": ["x"]}})
    assert [message.content for message in engine.requests[0].messages] == ["Own.", "hi"]
    assert engine.requests[0].stop == ("x",)
    client.post("/api/generate", json={"model": tiny, "prompt": "hi", "raw": True})
    assert (engine.requests[1].prompt, engine.requests[1].stop) == ("hi", ("END",))


def test_a_model_made_of_uploaded_files(client: TestClient, weights: bytes, state: ServerState) -> None:
    digest = f"sha256:{sha256(weights)}"
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    assert client.post(f"/api/blobs/{digest}", content=weights).status_code == 201
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    assert client.post(f"/api/blobs/{digest}", content=b"").status_code == 200
    answer = client.post("/api/create", json={"model": "own:v1", "files": {"m.gguf": digest}, "stream": False})
    assert answer.json() == {"status": "success"}
    assert names(client) == {"own:v1"}
    assert state.store.list()[0].path.read_bytes() == weights
    assert client.head(f"/api/blobs/{digest}").status_code == 200


def test_content_that_is_not_what_it_is_called(client: TestClient, state: ServerState) -> None:
    answer = client.post(f"/api/blobs/sha256:{'a' * 64}", content=b"other")
    assert (answer.status_code, answer.json()["code"]) == (400, "checksum_mismatch")
    assert not [path for path in state.store.root.rglob("*") if path.is_file()]


def test_content_that_does_not_fit(client: TestClient, state: ServerState, tmp_path: Path) -> None:
    full = Store(tmp_path, free_bytes=lambda folder: 3)
    client.app.state.server = ServerState(pool=state.pool, store=full, settings=state.settings)  # type: ignore[attr-defined]
    assert client.post(f"/api/blobs/sha256:{sha256(b'four')}", content=b"four").status_code == 507


@pytest.mark.parametrize(
    "digest", ["sha256:..", "sha256-" + "A" * 64, "md5:" + "a" * 64, "..%2f..%2fetc%2fpasswd", "x"]
)
def test_digests_that_are_none(client: TestClient, digest: str, state: ServerState) -> None:
    assert client.head(f"/api/blobs/{digest}").status_code in (400, 404)
    assert client.post(f"/api/blobs/{digest}", content=b"x").status_code in (400, 404)
    assert not state.store.root.exists()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "x"}, 400, "give one of them"),
        ({"model": "x", "from": "tiny:1b", "files": {"a.gguf": "b"}}, 400, "give one of them"),
        ({"model": "x", "from": "nowhere"}, 404, "Pull it first"),
        ({"from": "tiny:1b"}, 400, "model"),
        ({"model": "../x", "from": "tiny:1b"}, 400, "not a model's name"),
        ({"model": "x", "from": "tiny:1b", "quantize": "q4_K_M"}, 400, "quantize"),
        ({"model": "x", "from": "tiny:1b", "template": "{{ .Prompt }}"}, 400, "template"),
        ({"model": "x", "from": "tiny:1b", "adapters": {"a": "b"}}, 400, "digest"),
        ({"model": "x", "from": "tiny:1b", "adapters": {"a": f"sha256:{'a' * 64}"}}, 400, "upload it first"),
        ({"model": "x", "from": "tiny:1b", "adapters": {"a": 1, "b": 2}}, 400, "one adapter"),
        ({"model": "x", "files": {"a.gguf": "b"}, "adapters": {"a": "b"}}, 400, "from"),
        ({"model": "x", "modelfile": "FROM tiny"}, 400, "Modelfiles"),
        ({"model": "x", "from": "tiny:1b", "system": "s" * 300_000}, 400, "at most"),
        ({"model": "x", "files": {"a.gguf": f"sha256:{'a' * 64}"}}, 400, "upload it first"),
        ({"model": "x", "files": {"../a.gguf": f"sha256:{'a' * 64}"}}, 400, "relative path"),
        ({"model": "x", "files": {"a.gguf": 3}}, 400, "digests"),
    ],
)
def test_models_that_cannot_be_made(
    client: TestClient, tiny: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/api/create", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert names(client) == {tiny}


@pytest.mark.parametrize("content", [b"GGUF but not really", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"PK\x03\x04"])
def test_a_file_that_is_no_model(client: TestClient, state: ServerState, content: bytes) -> None:
    client.post(f"/api/blobs/sha256:{sha256(content)}", content=content)
    body = {"model": "x", "files": {"a.gguf": f"sha256:{sha256(content)}"}}
    answer = client.post("/api/create", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert str(state.store.root) not in answer.text
    assert state.store.list() == []


def test_copying_and_deleting(client: TestClient, tiny: str, pool: Named, state: ServerState) -> None:
    assert client.post("/api/copy", json={"source": tiny, "destination": "two"}).status_code == 200
    assert names(client) == {tiny, "two:latest"}
    assert client.request("DELETE", "/api/delete", json={"model": tiny}).status_code == 200
    assert pool.unloaded == ["ollama:tiny:1b"]
    assert shown(client, "two")["system"] == "Be brief."
    assert state.store.list()[0].path.is_file()
    assert client.request("DELETE", "/api/delete", json={"name": "two"}).status_code == 200
    assert client.request("DELETE", "/api/delete", json={"model": "two"}).status_code == 404
    assert client.post("/api/copy", json={"source": tiny, "destination": "two"}).status_code == 404
    assert names(client) == set()
