"""What no request may bring about: secrets in what is told, fields that reach an engine unread, lists that a bad file
breaks, a program that replaces itself."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.main import get_command

from madang.cli.main import app as command_line
from madang.core import Done, TextDelta
from madang.models import Manifest, ManifestFile, NameReference
from madang.server import ServerState
from madang.server.keys import KeyFile
from madang.server.logs import configure_logs
from tests.conftest import ROOT
from tests.formats.malformed.gguf_files import DEFECTS
from tests.server.doubles import Scripted, done
from tests.server.ollama.conftest import Named
from tests.server.security.conftest import bearer
from tests.server.security.routes import Operation

SOURCE = ROOT / "src" / "madang"


# -- secrets


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("madang", "uvicorn.error", "uvicorn.access")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    configure_logs(stream, level=logging.DEBUG)
    yield stream
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_no_route_tells_a_secret_or_a_prompt(
    client: TestClient, keys: KeyFile, routes: list[Operation], log: io.StringIO
) -> None:
    """In headers, errors, metrics or the log; with right keys, wrong keys, and keys in odd places."""
    secret, wrong, prompt = keys.add("one", may_manage=True), "md-" + "w" * 43, "my-private-words"
    told = []
    for route in routes:
        if "pull" in route.path:
            continue
        for headers in (bearer(secret), bearer(wrong), {"x-api-key": secret, "api-key": wrong}):
            url = f"{route.url()}?api_key={secret}&token={wrong}"
            answer = route.send(client, url=url, headers=headers)
            told += [answer.text, str(answer.headers)]
            if route.fields:
                body = route.body(messages=[{"role": "user", "content": prompt}], prompt=prompt, input=prompt)
                route.send(client, headers=headers, json={**(body or {}), "api_key": secret, "unknown": prompt})
    for path in ("/metrics", "/madang/v1/metrics", "/madang/v1/machine", "/openapi.json"):
        told.append(client.get(path, headers=bearer(secret)).text)
    for words in ("".join(told), log.getvalue()):
        for word in (secret, secret[3:], wrong, keys.list()[0].sha256):
            assert word not in words
    assert prompt not in log.getvalue() and '"path": "/api/chat"' in log.getvalue()


def test_secrets_are_compared_in_constant_time() -> None:
    """Of all keys, none left out: the loop has no early end, and nothing else in the server compares hashes."""
    (find,) = (
        node
        for node in ast.walk(ast.parse((SOURCE / "server" / "keys.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "find"
    )
    (loop,) = (node for node in ast.walk(find) if isinstance(node, ast.For))
    assert "hmac.compare_digest(key.sha256, digest)" in ast.unparse(loop)
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Break | ast.Return)]
    for path in (SOURCE / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                assert "secret" not in ast.unparse(node), path


# -- fields that nobody asked for


KNOBS: dict[str, Any] = {
    "n_discard": -1,
    "n_keep": -(2**31),
    "id_slot": 2**31,
    "cache_prompt": "x",
    "n_probs": 10**9,
    "lora": [{"id": 0, "scale": 1e30}],
    "grammar_triggers": [{}],
    "__class__": {"__init__": 1},
    "chat_template": "{{ ''.__class__.__mro__ }}",
    "chat_template_kwargs": {"a": 1},
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"])
def test_knobs_of_engines_reach_no_engine(client: TestClient, pool: Named, path: str) -> None:
    """The engine is asked for the same as without them, or the request is refused."""
    engine = Scripted(TextDelta("a"), done(), max_concurrency=1)
    pool.models["scripted"] = engine
    body: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    if path == "/v1/responses":
        body = {"model": "scripted", "input": "a"}
    if path == "/api/chat":
        body |= {"stream": False}
        del body["max_tokens"]
    assert client.post(path, json={**body}).status_code == 200
    for name, value in KNOBS.items():
        n_before = len(engine.requests)
        answer = client.post(path, json={**body, name: value})
        assert answer.status_code in (200, 400), (name, answer.text)
        if answer.status_code == 200:
            assert engine.requests[n_before:] == engine.requests[:1], name
            assert name in str(answer.json()["madang"]["warnings"]), name
        else:
            assert engine.requests[n_before:] == [] and name in answer.text
    assert isinstance(done(), Done)


# -- files that are none


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_hostile_file_in_the_store_breaks_no_list(
    client: TestClient, state: ServerState, tmp_path: Path, defect: Any
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(defect.content)
    status = file.stat()
    weights = ManifestFile("model.gguf", status.st_size, path=str(file), modified_ns=status.st_mtime_ns)
    state.store.commit(Manifest(NameReference("hostile", "1b"), "gguf", "test", (weights,), datetime.now(UTC)))
    for path in ("/v1/models", "/v1/models/hostile:1b", "/api/tags", "/madang/v1/models", "/madang/v1/catalog"):
        assert client.get(path).status_code == 200, path
    assert client.post("/api/show", json={"model": "hostile:1b"}).status_code == 200
    assert client.get("/madang/v1/plans/hostile:1b").status_code in (200, 422, 500)
    assert str(tmp_path) not in client.get("/madang/v1/plans/hostile:1b").text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 9}'])
def test_a_damaged_manifest_hides_its_own_model_only(client: TestClient, state: ServerState, content: bytes) -> None:
    file = state.store.root.parent / "model.gguf"
    file.write_bytes(b"GGUF")
    status = file.stat()
    weights = ManifestFile("model.gguf", status.st_size, path=str(file), modified_ns=status.st_mtime_ns)
    for name in ("good", "bad"):
        state.store.commit(Manifest(NameReference(name, "1b"), "gguf", "test", (weights,), datetime.now(UTC)))
    state.store.manifest_path(NameReference("bad", "1b")).write_bytes(content)
    assert [row["id"] for row in client.get("/v1/models").json()["data"]] == ["good:1b"]
    assert [row["name"] for row in client.get("/madang/v1/models").json()["models"]] == ["good:1b"]
    assert [row["model"] for row in client.get("/api/tags").json()["models"]] == ["good:1b"]
    assert client.get("/v1/models/nowhere:1b").status_code == 404
    assert client.get("/madang/v1/catalog").status_code == 200
    answer = client.post("/api/show", json={"model": "bad:1b"})
    assert answer.status_code == 500 and "damaged" in answer.text and str(state.store.root) not in answer.text


# -- updates


def test_nothing_updates_itself() -> None:
    verbs: Any = get_command(command_line).commands  # type: ignore[attr-defined]
    assert not [verb for verb in verbs if "update" in verb or "upgrade" in verb or "install" in verb]
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple):
                words = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                assert "install" not in words, f"{path.name}, line {node.lineno}"
