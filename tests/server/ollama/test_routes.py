"""The routes over the echo, a script and vectors of letters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import Embeddings, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from madang.core.errors import EngineError
from tests.server.doubles import Letters, Scripted, done
from tests.server.ollama.conftest import Named, lines

HI = {"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}


def test_it_is_alive(client: TestClient) -> None:
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"].startswith("text/html")


def test_the_version_is_numbers(client: TestClient) -> None:
    version = client.get("/api/version").json()["version"]
    assert [int(part) for part in version.split(".")]
    assert client.head("/api/version").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/chat"), ("POST", "/api/tags"), ("GET", "/api/delete"), ("PUT", "/api/version")]
)
def test_wrong_methods(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert path in answer.json()["error"]


def test_what_is_not_there(client: TestClient) -> None:
    answer = client.get("/api/nothing")
    assert (answer.status_code, list(answer.json())) == (404, ["error", "code"])


def test_a_chat_streams_unless_it_is_told_not_to(client: TestClient) -> None:
    streamed = lines(client.post("/api/chat", json=HI))
    assert "".join(line["message"]["content"] for line in streamed) == "hello there"
    assert [line["done"] for line in streamed] == [False] * (len(streamed) - 1) + [True]
    assert len(streamed) > 2
    whole = client.post("/api/chat", json={**HI, "stream": False})
    assert whole.headers["content-type"] == "application/json"
    answer = whole.json()
    assert answer["message"] == {"role": "assistant", "content": "hello there"}
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("echo", True, "stop")
    datetime.fromisoformat(answer["created_at"])
    for name in ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"):
        assert isinstance(answer[name], int)
        assert answer[name] > 0
    assert answer["total_duration"] >= answer["load_duration"]
    assert answer["madang"]["n_ctx"] == 200


def test_reasoning_and_calls(client: TestClient, pool: Named) -> None:
    call = ToolCall("call_0", "weather", {"city": "서울"})
    engine = Scripted(ReasoningDelta("hm"), TextDelta("I look."), ToolCallDelta(call), done("tool_calls"))
    pool.models["scripted"] = engine
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    body = {**HI, "model": "scripted", "tools": tools, "stream": False, "think": True}
    message = client.post("/api/chat", json=body).json()["message"]
    assert (message["thinking"], message["content"]) == ("hm", "I look.")
    assert message["tool_calls"][0]["function"]["arguments"] == {"city": "서울"}
    assert engine.requests[0].tools[0].name == "weather"
    assert engine.requests[0].reasoning is True


def test_generating_and_going_on(client: TestClient) -> None:
    first = client.post("/api/generate", json={"model": "echo", "prompt": "안녕", "stream": False}).json()
    assert first["response"] == "안녕"
    body = {"model": "echo", "prompt": "again", "context": first["context"], "stream": False}
    second = client.post("/api/generate", json=body).json()
    assert second["response"] == "again"
    assert second["prompt_eval_count"] > first["prompt_eval_count"]


def test_a_raw_prompt(client: TestClient) -> None:
    body = {"model": "echo", "prompt": "raw text", "raw": True, "stream": False, "options": {"num_predict": 2}}
    answer = client.post("/api/generate", json=body).json()
    assert (answer["response"], answer["done_reason"], answer["eval_count"]) == ("raw ", "length", 2)
    assert "context" not in answer


@pytest.mark.parametrize(("path", "empty"), [("/api/generate", {"prompt": ""}), ("/api/chat", {"messages": []})])
def test_loading_and_unloading(client: TestClient, pool: Named, path: str, empty: dict[str, Any]) -> None:
    loaded = client.post(path, json={"model": "echo", "keep_alive": "10m", **empty})
    assert loaded.headers["content-type"] == "application/json"
    assert (loaded.json()["done"], loaded.json()["done_reason"]) == (True, "load")
    assert pool.leased == [("echo:latest", 600.0)]
    unloaded = client.post(path, json={"model": "echo", "keep_alive": 0, **empty})
    assert unloaded.json()["done_reason"] == "unload"
    assert pool.unloaded == ["echo:latest"]
    assert client.post(path, json={"model": "nowhere", **empty}).status_code == 404


def test_what_does_not_fit_is_refused_with_numbers(client: TestClient) -> None:
    long = {**HI, "messages": [{"role": "user", "content": "x" * 900}], "stream": True}
    answer = client.post("/api/chat", json=long)
    assert answer.status_code == 400
    assert answer.json()["code"] == "exceed_context_size_error"
    assert answer.json()["n_ctx"] == 200
    assert answer.json()["n_prompt_tokens"] > 200


def test_what_is_left_out_on_request_is_told(client: TestClient) -> None:
    messages = [{"role": "user", "content": f"{n}" * 200} for n in range(5)]
    answer = client.post("/api/chat", json={**HI, "messages": messages, "truncate": True, "stream": False}).json()
    ledger = answer["madang"]
    assert answer["message"]["content"] == ("4" * 200)[: len(answer["message"]["content"])]
    assert ledger["dropped_messages"] > 0
    assert ledger["received_tokens"] == ledger["kept_tokens"] + ledger["dropped_tokens"]


def test_a_context_of_the_clients_own(client: TestClient) -> None:
    body = {**HI, "stream": False, "options": {"num_ctx": 100_000, "num_gpu": 1}}
    answer = client.post("/api/chat", json=body).json()
    assert answer["madang"]["n_ctx"] == 200
    assert len(answer["madang"]["warnings"]) == 2
    small = client.post("/api/chat", json={**body, "options": {"num_ctx": 4}})
    assert (small.status_code, small.json()["n_ctx"]) == (400, 4)


def test_failures_before_and_in_a_stream(client: TestClient, pool: Named) -> None:
    pool.models["scripted"] = Scripted(EngineError("It broke."))
    body = {**HI, "model": "scripted"}
    assert (client.post("/api/chat", json=body).status_code) == 500
    pool.models["scripted"] = Scripted(TextDelta("so far"), EngineError("It broke."))
    streamed = lines(client.post("/api/chat", json=body))
    assert streamed[-1] == {"error": "It broke.", "code": "engine_error"}
    assert client.post("/api/chat", json={**body, "stream": False}).json()["error"] == "It broke."


def test_a_secret_in_a_failure_stays_one(client: TestClient, pool: Named) -> None:
    pool.models["scripted"] = Scripted(TextDelta("a"), RuntimeError("/home/secret"))
    assert "secret" not in client.post("/api/chat", json={**HI, "model": "scripted"}).text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/chat", {"model": "echo", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
        ("/api/generate", {"model": "echo", "prompt": "x", "suffix": "y"}, "suffix"),
        ("/api/generate", {"model": "echo", "prompt": "x", "options": {"top_q": 1}}, "top_q"),
        ("/api/embed", {"model": "letters"}, "input"),
        ("/api/push", {"model": "echo"}, "publish"),
    ],
)
def test_what_is_refused(client: TestClient, path: str, body: dict[str, Any], param: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert param in answer.json()["error"]


def test_embedding(client: TestClient) -> None:
    answer = client.post("/api/embed", json={"model": "letters", "input": ["abba", "b"]}).json()
    assert [vector[:2] for vector in answer["embeddings"]] == [[2.0, 2.0], [0.0, 1.0]]
    assert (answer["model"], answer["prompt_eval_count"]) == ("letters", 5)
    assert answer["total_duration"] >= answer["load_duration"] > 0
    assert "madang" not in answer
    one = client.post("/api/embed", json={"model": "letters", "input": "ab", "dimensions": 2, "options": {"seed": 1}})
    assert one.json()["embeddings"] == [[pytest.approx(0.5**0.5)] * 2]
    assert "seed" in one.json()["madang"]["warnings"][0]
    assert client.post("/api/embed", json={"model": "letters", "input": "ab", "dimensions": 99}).status_code == 400
    old = client.post("/api/embeddings", json={"model": "letters", "prompt": "abba"})
    assert old.json()["embedding"][:2] == [2.0, 2.0]


def test_texts_that_are_too_long_are_only_cut_on_request(client: TestClient) -> None:
    body = {"model": "letters", "input": ["a" * 80, "b"]}
    assert client.post("/api/embed", json=body).json()["n_prompt_tokens"] == 80
    answer = client.post("/api/embed", json={**body, "truncate": True}).json()
    assert 40 < answer["embeddings"][0][0] <= 50
    assert "input 0" in answer["madang"]["warnings"][0]


def test_models_for_something_else(client: TestClient) -> None:
    assert client.post("/api/chat", json={**HI, "model": "letters"}).status_code == 400
    assert client.post("/api/embed", json={"model": "echo", "input": "x"}).status_code == 400


def test_what_is_in_memory(client: TestClient) -> None:
    rows = client.get("/api/ps").json()["models"]
    assert [row["model"] for row in rows] == ["echo:latest", "letters:latest"]
    for row in rows:
        datetime.fromisoformat(row["expires_at"])
        assert (row["size"], row["size_vram"]) == (123, 0)
    assert rows[0]["context_length"] == 200
    assert rows[0]["madang"]["reason"] == "It was asked for."


def test_bodies_without_a_type(client: TestClient) -> None:
    content = b'{"model": "echo", "prompt": "x", "stream": false}'
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/api/generate", content=content, headers=headers).json()["response"] == "x"
    assert client.post("/api/generate", content=b"{", headers=headers).status_code == 400


def test_an_engine_that_runs_one_at_a_time_is_left_free(client: TestClient, pool: Named) -> None:
    for _ in range(3):
        assert client.post("/api/chat", json=HI).status_code == 200
    assert pool.n_leases == 0


def test_vectors_take_a_place_among_what_runs(client: TestClient, pool: Named) -> None:
    seen: list[float] = []

    class Watched(Letters):
        def embed(self, texts: Sequence[str]) -> Embeddings:
            seen.append(client.get("/madang/v1/metrics").json()["running"])
            return super().embed(texts)

    pool.models["letters"] = Watched()
    assert client.post("/api/embed", json={"model": "letters", "input": "a"}).status_code == 200
    assert client.post("/api/embeddings", json={"model": "letters", "prompt": "a"}).status_code == 200
    assert seen == [1, 1]
