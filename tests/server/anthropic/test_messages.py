"""``/v1/messages``: what clients of Anthropic's API send and read."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import httpx
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from starlette.testclient import TestClient

from madang.core import JsonSchema, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from madang.core.errors import EngineError
from madang.server.anthropic.messages import CountRequest, MessagesRequest
from madang.server.wire import WireRequest
from tests.server.conftest import Script
from tests.server.doubles import done

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"name": "weather", "description": "of a city", "input_schema": {"type": "object"}}


def ask(client: TestClient, **body: Any) -> httpx.Response:
    return client.post("/v1/messages", json={"model": "echo", "max_tokens": 50, "messages": HELLO, **body})


def told(client: TestClient, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    response = ask(client, stream=True, **body)
    assert response.status_code == 200, response.text
    events = []
    for piece in response.text.split("\n\n")[:-1]:
        name, data = piece.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    assert all(name == value["type"] for name, value in events)
    return events


def core(**body: Any) -> Any:
    return MessagesRequest.model_validate({"model": "x", "max_tokens": 5, "messages": HELLO, **body}).core_request()


def test_an_answer_has_the_schema_of_a_message(client: TestClient, script: Script) -> None:
    call = ToolCall("t1", "weather", {"city": "서울"})
    script(ReasoningDelta("well"), TextDelta("hi"), ToolCallDelta(call), done("tool_calls", prompt=7, cached=3))
    body = ask(client, model="scripted", tools=[TOOL]).json()
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "scripted")
    assert body["content"] == [
        {"type": "thinking", "thinking": "well", "signature": ""},
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "서울"}},
    ]
    assert (body["stop_reason"], body["stop_sequence"]) == ("tool_use", None)
    assert (body["usage"]["input_tokens"], body["usage"]["cache_read_input_tokens"]) == (4, 3)
    assert body["madang"]["n_ctx"] == 100


def test_why_it_ended(client: TestClient) -> None:
    assert ask(client).json()["stop_reason"] == "end_turn"
    assert ask(client, max_tokens=1).json()["stop_reason"] == "max_tokens"
    body = ask(client, stop_sequences=["lo"]).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "lo")


def test_a_stream_begins_fills_and_ends_blocks(client: TestClient, script: Script) -> None:
    calls = [ToolCallDelta(ToolCall(f"t{i}", "weather", {"i": i})) for i in range(2)]
    script(ReasoningDelta("we"), ReasoningDelta("ll"), TextDelta("hi"), *calls, done("tool_calls", completion=9))
    events = told(client, model="scripted", tools=[TOOL])
    names = [name for name, _ in events]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("content_block_start") == names.count("content_block_stop") == 4
    blocks = [value["content_block"]["type"] for name, value in events if name == "content_block_start"]
    assert blocks == ["thinking", "text", "tool_use", "tool_use"]
    deltas = [value for name, value in events if name == "content_block_delta"]
    assert [value["index"] for value in deltas] == [0, 0, 1, 2, 3]
    assert deltas[0]["delta"] == {"type": "thinking_delta", "thinking": "we"}
    assert deltas[2]["delta"] == {"type": "text_delta", "text": "hi"}
    assert json.loads(deltas[4]["delta"]["partial_json"]) == {"i": 1}
    assert events[-2][1]["usage"]["output_tokens"] == 9
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"


def test_one_call_if_no_more_are_wanted(client: TestClient, script: Script) -> None:
    script(*(ToolCallDelta(ToolCall(f"t{i}", "weather", {})) for i in range(3)), done("tool_calls"))
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(ask(client, model="scripted", tools=[TOOL], tool_choice=choice).json()["content"]) == 1
    events = told(client, model="scripted", tools=[TOOL], tool_choice=choice)
    assert [name for name, _ in events].count("content_block_start") == 1


def test_a_failure_in_the_middle_is_an_event_and_the_end(client: TestClient, script: Script) -> None:
    script(TextDelta("so far"), EngineError("It broke."))
    name, value = told(client, model="scripted")[-1]
    assert (name, value["error"]) == ("error", {"type": "api_error", "message": "It broke."})


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"model": "other"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "invalid_request_error"),
        ({"tool_choice": {"type": "tool"}}, 400, "invalid_request_error"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error"),
        ({"container": "abc"}, 400, "invalid_request_error"),
    ],
)
def test_refusals_are_in_the_words_of_this_api(
    client: TestClient, body: dict[str, Any], status: int, kind: str
) -> None:
    response = ask(client, **body)
    assert (response.status_code, response.json()["type"]) == (status, "error"), response.text
    assert response.json()["error"]["type"] == kind


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: TestClient) -> None:
    error = ask(client, messages=[{"role": "user", "content": "x" * 1000}]).json()["error"]
    assert (error["code"], error["n_ctx"]) == ("exceed_context_size_error", 200)


def test_tokens_are_counted(client: TestClient) -> None:
    body = {"model": "echo", "messages": HELLO, "system": "Be brief."}
    response = client.post("/v1/messages/count_tokens", json=body)
    assert response.json()["input_tokens"] > 5


def test_a_conversation_with_blocks_and_results() -> None:
    request = core(
        system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        messages=[
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "서울"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "and?"}]},
        ],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "weather"},
        thinking={"type": "disabled"},
        top_k=3,
    )  # fmt: skip
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool", "user"]
    assert request.messages[0].content == "Be brief."
    assert request.messages[2].content == "I look."
    assert request.messages[2].tool_calls == (ToolCall("t1", "weather", {"city": "서울"}),)
    assert (request.messages[3].content, request.messages[3].name) == ("rain", "weather")
    assert (request.tool_choice, request.reasoning, request.sampling.top_k) == ("weather", False, 3)


def test_a_form_of_the_answer() -> None:
    config = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert core(output_config=config).constraint == JsonSchema({"type": "object"})


@pytest.mark.parametrize(
    ("wire", "params"),
    [
        (MessagesRequest, message_create_params.MessageCreateParamsStreaming),
        (CountRequest, message_count_tokens_params.MessageCountTokensParams),
    ],
)
def test_every_field_of_the_schema_is_in_one_list(wire: type[WireRequest], params: type[Any]) -> None:
    schema = set(get_type_hints(params))
    lists = [set(wire.model_fields), set(wire.IGNORED), set(wire.REFUSED)]
    assert schema - set().union(*lists) == set()
    assert [field for field in schema if sum(field in names for names in lists) != 1] == []


def test_ignored_fields_are_told(client: TestClient) -> None:
    body = ask(client, metadata={"user_id": "me"}, thinking={"type": "disabled", "budget_tokens": 5}).json()
    assert [warning.split(" is ignored")[0] for warning in body["madang"]["warnings"]] == [
        "metadata",
        "thinking.budget_tokens",
    ]
