"""Open WebUI, which is too large to be run here: the requests that its source sends, and what it does with the answers.

After open_webui/routers/ollama.py and openai.py, version 0.6.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from tests.compatibility.questions import CAPITAL, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client(
    "Open WebUI (replayed)",
    "its requests and its checks of the answers, not the program: connect it to `http://127.0.0.1:11434` as Ollama, "
    "or with `/v1` as OpenAI.",
)
USER = {
    "X-OpenWebUI-User-Name": "Mina%20Kim",
    "X-OpenWebUI-User-Id": "7d0c1e5e",
    "X-OpenWebUI-User-Email": "mina@example.org",
    "X-OpenWebUI-User-Role": "admin",
    "X-OpenWebUI-Chat-Id": "9f4a",
}


@pytest.mark.shows("models")
def test_connecting(raw: httpx.Client) -> None:
    version = raw.get("/api/version", headers=USER).json()["version"]
    assert tuple(int(part) for part in version.removeprefix("v").split("-")[0].split("."))
    models = raw.get("/api/tags", headers=USER).json()["models"]
    assert STARTER in {model["model"] for model in models}
    assert {STARTER, EMBEDDER} <= {model["id"] for model in raw.get("/v1/models", headers=USER).json()["data"]}
    assert raw.post("/api/show", json={"name": STARTER, "model": STARTER}).json()["model_info"]


@pytest.mark.shows("chat")
def test_a_background_task(raw: httpx.Client) -> None:
    """Titles and tags: whole answers, beside the chat."""
    body = {"model": STARTER, "messages": CAPITAL, "stream": False, "options": {"temperature": 0}}
    assert "Paris" in raw.post("/api/chat", json=body, headers=USER).json()["message"]["content"]
    wish = {"model": STARTER, "messages": CAPITAL, "stream": False, "max_completion_tokens": 12, "temperature": 0}
    answer = raw.post("/v1/chat/completions", json=wish, headers=USER).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]


@pytest.mark.shows("stream", "stream usage")
def test_a_stream(raw: httpx.Client) -> None:
    body = {"model": STARTER, "messages": CAPITAL, "stream": True, "keep_alive": "5m", "options": {"num_predict": 12}}
    with raw.stream("POST", "/api/chat", json=body, headers=USER) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert lines[-1]["eval_count"] > 0
    wish = {"model": STARTER, "messages": CAPITAL, "stream": True, "stream_options": {"include_usage": True}}
    with raw.stream("POST", "/v1/chat/completions", json=wish, headers=USER) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        *_, usage, end = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert (json.loads(usage)["usage"]["completion_tokens"] > 0, end) == (True, "[DONE]")


@pytest.mark.shows("embeddings")
def test_embeddings(raw: httpx.Client) -> None:
    texts = ["a cat", "a kitten", "tax law"]
    one = raw.post("/api/embed", json={"model": EMBEDDER, "input": texts}, headers=USER).json()
    two = raw.post("/v1/embeddings", json={"model": EMBEDDER, "input": texts}, headers=USER).json()
    assert stay_closest(one["embeddings"])
    assert stay_closest([row["embedding"] for row in two["data"]])
    old = raw.post("/api/embeddings", json={"model": EMBEDDER, "prompt": "a cat"}, headers=USER).json()
    assert old["embedding"] == pytest.approx(one["embeddings"][0])


@pytest.mark.shows("management")
def test_loaded_models_and_unloading(raw: httpx.Client) -> None:
    raw.post("/api/generate", json={"model": STARTER, "prompt": ""})
    loaded = {model["model"]: model for model in raw.get("/api/ps", headers=USER).json()["models"]}
    assert datetime.fromisoformat(loaded[STARTER]["expires_at"]) > datetime.now(UTC)
    unload = {"model": STARTER, "keep_alive": 0, "prompt": ""}  # without stream, and one object is expected
    answer = raw.post("/api/generate", json=unload, headers=USER)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["done_reason"] == "unload"


@pytest.mark.shows("management")
def test_pulling_what_is_here_copying_and_deleting(raw: httpx.Client) -> None:
    pulled = raw.post("/api/pull", json={"model": STARTER, "insecure": True}, headers=USER)
    assert [json.loads(line) for line in pulled.text.splitlines()][-1]["status"] == "success"
    assert raw.post("/api/copy", json={"source": STARTER, "destination": "webui-copy"}, headers=USER).is_success
    assert raw.request("DELETE", "/api/delete", json={"model": "webui-copy"}, headers=USER).is_success


@pytest.mark.shows("errors")
def test_errors(raw: httpx.Client) -> None:
    """It shows ``error`` of Ollama's answers, and ``error.message`` of OpenAI's."""
    missing = raw.post("/api/chat", json={"model": "no-such-model", "messages": CAPITAL}, headers=USER)
    assert (missing.status_code, "no-such-model" in missing.json()["error"]) == (404, True)
    long = raw.post("/v1/chat/completions", json={"model": STARTER, "messages": too_long()}, headers=USER)
    assert (long.status_code, "8192" in long.json()["error"]["message"]) == (400, True)
