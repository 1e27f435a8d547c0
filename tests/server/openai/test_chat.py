"""``/v1/chat/completions``: what clients of OpenAI's API send and read."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from madang.core import JsonSchema, ReasoningDelta, TextDelta, TokenLogprob, ToolCall, ToolCallDelta
from madang.core.errors import ContextLengthExceeded, EngineError, NotEnoughMemory
from madang.server.openai.chat import ChatRequest
from tests.server.conftest import Script
from tests.server.doubles import done

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object"}},
}


def chat(client: TestClient, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "echo", "messages": HELLO, **body})


def answer(client: TestClient, **body: Any) -> dict[str, Any]:
    response = chat(client, **body)
    assert response.status_code == 200, response.text
    body_: dict[str, Any] = response.json()
    return body_


def chunks(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    """All data objects of a stream that ends as it must."""
    response = chat(client, stream=True, **body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    pieces = response.text.split("\n\n")
    assert pieces[-2:] == ["data: [DONE]", ""]
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]


def refusal(client: TestClient, status: int = 400, **body: Any) -> dict[str, Any]:
    response = chat(client, **body)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def core(**body: Any) -> Any:
    """The request in our words."""
    return ChatRequest.model_validate({"model": "echo", "messages": HELLO, **body}).core_requests()[0]


# ---- whole answers


def test_an_answer_has_the_schema_of_a_chat_completion(client: TestClient) -> None:
    body = answer(client)
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "echo"
    [choice] = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "hello"
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_the_path_works_without_v1(client: TestClient) -> None:
    response = client.post("/chat/completions", json={"model": "echo", "messages": HELLO})
    assert response.json()["choices"][0]["message"]["content"] == "hello"


def test_an_answer_says_where_its_tokens_went(client: TestClient, script: Script) -> None:
    script(TextDelta("hi"), done(prompt=7, cached=3, completion=5))
    body = answer(client, model="scripted")
    assert body["madang"] == {
        "n_ctx": 100,
        "received_tokens": 7,
        "cached_tokens": 3,
        "kept_tokens": 7,
        "dropped_tokens": 0,
        "generated_tokens": 5,
        "seed": 42,
    }
    assert body["timings"]["cache_n"] == 3
    assert body["timings"]["prompt_per_second"] == 8.0
    assert body["timings"]["predicted_per_second"] == 2.0


def test_curl_calls_every_body_a_form(client: TestClient) -> None:
    response = client.post(
        "/v1/chat/completions",
        content=json.dumps({"model": "echo", "messages": HELLO}),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert response.status_code == 200


def test_reasoning_is_apart_from_the_answer(client: TestClient, script: Script) -> None:
    script(ReasoningDelta("well"), TextDelta("42"), done())
    message = answer(client, model="scripted")["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("well", "42")


def test_calls_carry_their_arguments_as_text(client: TestClient, script: Script) -> None:
    script(ToolCallDelta(ToolCall("call_1", "weather", {"city": "서울"})), done("tool_calls"))
    choice = answer(client, model="scripted", tools=[WEATHER])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "서울"}'}}
    ]


def test_without_parallel_calls_there_is_one(client: TestClient, script: Script) -> None:
    calls = [ToolCallDelta(ToolCall(f"call_{i}", "weather", {})) for i in range(3)]
    script(*calls, done("tool_calls"))
    body = {"model": "scripted", "tools": [WEATHER], "parallel_tool_calls": False}
    assert len(answer(client, **body)["choices"][0]["message"]["tool_calls"]) == 1
    told = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks(client, **body)]
    assert len([calls for calls in told if calls]) == 1


def test_several_answers_differ_and_the_prompt_counts_once(client: TestClient, script: Script) -> None:
    engine = script(TextDelta("hi"), done(prompt=7, completion=5))
    body = answer(client, model="scripted", n=3, seed=10)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 15)
    assert sorted(request.sampling.seed or 0 for request in engine.requests) == [10, 11, 12]


def test_several_answers_of_an_engine_that_gives_one_at_a_time(client: TestClient) -> None:
    assert [choice["message"]["content"] for choice in answer(client, n=4)["choices"]] == ["hello"] * 4


def test_probabilities_come_with_text_and_bytes(client: TestClient, script: Script) -> None:
    token = TokenLogprob(5, "가", -0.5, ((5, -0.5), (6, float("-inf"))), ("가", "\ufffd"))
    script(TextDelta("가", (token,)), done())
    [told] = answer(client, model="scripted", logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert (told["token"], told["bytes"], told["logprob"]) == ("가", list("가".encode()), -0.5)
    assert told["top_logprobs"][1] == {"token": "\ufffd", "bytes": None, "logprob": -9999.0}


# ---- streams


def test_a_stream_is_role_text_finish(client: TestClient) -> None:
    told = chunks(client)
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told) == "hello"
    assert told[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert told[-1]["madang"]["n_ctx"] == 200
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in told}) == 1
    assert not any("usage" in chunk for chunk in told)


def test_usage_comes_in_a_chunk_of_its_own(client: TestClient) -> None:
    told = chunks(client, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in told[:-1])
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["completion_tokens"] > 0


def test_the_stream_has_the_calls_and_the_reasoning(client: TestClient, script: Script) -> None:
    script(ReasoningDelta("well"), *(ToolCallDelta(ToolCall(f"c{i}", "weather", {})) for i in range(2)), done())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(client, model="scripted", tools=[WEATHER])]
    assert deltas[1] == {"reasoning_content": "well"}
    assert [delta["tool_calls"][0]["index"] for delta in deltas if "tool_calls" in delta] == [0, 1]


def test_a_failure_in_the_middle_is_one_object_and_the_end(client: TestClient, script: Script) -> None:
    script(TextDelta("so far"), EngineError("It broke."))
    response = chat(client, model="scripted", stream=True)
    assert response.status_code == 200
    last = response.text.split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "It broke."


def test_what_is_not_ours_to_tell_is_not_told(client: TestClient, script: Script) -> None:
    script(TextDelta("so far"), RuntimeError("/secret/path"))
    assert "secret" not in chat(client, model="scripted", stream=True).text
    script(RuntimeError("/secret/path"))
    response = chat(client, model="scripted")
    assert response.status_code == 500
    assert "secret" not in response.text


def test_a_failure_before_the_first_piece_has_its_status(client: TestClient, script: Script) -> None:
    script(NotEnoughMemory("The model", 10, 5))
    assert refusal(client, 503, model="scripted", stream=True)["code"] == "not_enough_memory"


# ---- errors


def test_a_model_that_is_not_here(client: TestClient) -> None:
    error = refusal(client, 404, model="ecko")
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "Did you mean echo?" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: TestClient, stream: bool) -> None:
    error = refusal(client, messages=[{"role": "user", "content": "x" * 1000}], stream=stream)
    assert error["type"] == "exceed_context_size_error"
    assert error["code"] == "context_length_exceeded"
    assert error["n_ctx"] == 200
    assert error["n_prompt_tokens"] > 200


def test_an_embedder_does_not_chat(client: TestClient) -> None:
    assert refusal(client, model="letters")["param"] == "model"


def test_errors_name_the_field_as_it_is_called_here(client: TestClient) -> None:
    assert refusal(client, response_format={"type": "json_object"})["param"] == "response_format"
    assert refusal(client, reasoning_effort="high")["param"] == "reasoning_effort"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]},
         "messages.0.tool_calls.0.function.arguments"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1_000_000}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"model": None}, "model"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    error = refusal(client, **body)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b'{"a":' * 50_000, b"\xff"])
def test_what_is_no_json_object_is_refused(client: TestClient, content: bytes) -> None:
    response = client.post("/v1/chat/completions", content=content)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("value", [rb'"\ud800"', b"NaN", b"Infinity", b"1e999"])
def test_what_no_answer_can_hold_is_refused(client: TestClient, value: bytes) -> None:
    body = b'{"model":"echo","messages":[{"role":"user","content":"x"}],"metadata":{"x":%s}}' % value
    assert client.post("/v1/chat/completions", content=body).status_code == 400


def test_another_path_and_another_method(client: TestClient) -> None:
    assert client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert client.get("/v1/chat/completions").status_code == 405


# ---- the request in our words


def test_the_fields_reach_the_engine() -> None:
    request = core(
        temperature=0,
        top_p=0.5,
        seed=0,
        stop="END",
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"5": -100},
        logprobs=True,
        max_completion_tokens=0,
        top_k=3,
        min_p=0.1,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        service_tier="flex",
        reasoning_effort="none",
    )
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.logprobs) == (0, 0.5, 0, 0)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.logit_bias) == (1, -1, {5: -100})
    assert (sampling.top_k, sampling.min_p, sampling.repeat_penalty, sampling.repeat_last_n) == (3, 0.1, 1.1, -1)
    assert (request.stop, request.max_tokens) == (("END",), 0)
    assert (request.priority, request.reasoning) == ("background", False)


def test_what_is_not_sent_is_not_set() -> None:
    request = core()
    assert request.sampling.temperature is None
    assert request.max_tokens is None
    assert request.reasoning is None


def test_a_conversation_with_parts_and_calls() -> None:
    request = core(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "서울"}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )  # fmt: skip
    system, user, assistant, tool = request.messages
    assert (system.role, user.content) == ("system", "ab")
    assert assistant.tool_calls == (ToolCall("c1", "weather", {"city": "서울"}),)
    assert (tool.tool_call_id, tool.name) == ("c1", "weather")
    assert request.tool_choice == "weather"


def test_forms_of_answers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    by_schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert core(response_format=by_schema).constraint == JsonSchema(schema)
    assert core(response_format={"type": "json_object"}).constraint == JsonSchema({"type": "object"})
    assert core(response_format={"type": "text"}).constraint is None


def test_a_prompt_too_long_is_known_to_be_ours() -> None:
    assert ContextLengthExceeded(5, 4).code == "exceed_context_size_error"  # what clients of llama.cpp look for
