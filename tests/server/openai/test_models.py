"""``/v1/models``: what the store has."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from madang.models import Manifest, ManifestFile, Store, StoredReference, parse_reference

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
