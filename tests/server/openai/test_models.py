"""``/v1/models``: what the store has."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.models import Manifest, ManifestFile, Store, StoredReference, parse_reference
from madang.server.keys import KeyFile

MODIFIED = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def names(tmp_path: Path) -> list[str]:
    """Two models in the store; their files lie elsewhere."""
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF")
    stat = file.stat()
    names = ["hf:someone/something", "tiny:1m"]
    for name in names:
        reference = parse_reference(name)
        assert isinstance(reference, StoredReference)
        weights = ManifestFile("weights.gguf", stat.st_size, path=str(file), modified_ns=stat.st_mtime_ns)
        Store(tmp_path).commit(Manifest(reference, "gguf", "test", (weights,), MODIFIED))
    return names


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_the_list_and_each_of_it(client: TestClient, names: list[str], prefix: str) -> None:
    body = client.get(f"{prefix}/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == names
    for model in body["data"]:
        assert model == {
            "id": model["id"], "object": "model", "created": int(MODIFIED.timestamp()), "owned_by": "madang"
        }  # fmt: skip
        assert client.get(f"{prefix}/models/{model['id']}").json() == model


@pytest.mark.parametrize(
    "name", ["other", "file:/etc/passwd", "file:weights.gguf", "..%2f..%2fetc%2fpasswd", "a%00b", "tiny:2"]
)
def test_what_is_not_in_the_store_is_not_found(client: TestClient, name: str) -> None:
    response = client.get(f"/v1/models/{name}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def test_a_key_sees_only_its_models(client: TestClient, tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer " + KeyFile(tmp_path).add("one", models=["tiny:*"])}
    assert [model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]] == ["tiny:1m"]
    assert client.get("/v1/models/tiny:1m", headers=headers).status_code == 200
    hidden = client.get("/v1/models/hf:someone/something", headers=headers)
    gone = client.get("/v1/models/hf:someone/other", headers=headers)
    assert hidden.status_code == gone.status_code == 404
    assert hidden.text.replace("something", "other") == gone.text
    talk: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    for path, body in {
        "/v1/chat/completions": talk,
        "/v1/messages": talk,
        "/v1/completions": {"prompt": "a"},
        "/v1/responses": {"input": "a"},
        "/v1/embeddings": {"input": "a"},
    }.items():
        answer = client.post(path, json={"model": "hf:someone/something", **body}, headers=headers)
        assert answer.status_code == 404, (path, answer.text)
