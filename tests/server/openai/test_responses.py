"""``/v1/responses``: the newer API of OpenAI, without a memory."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from madang.core import JsonSchema, ReasoningDelta, TextDelta, TokenLogprob, ToolCall, ToolCallDelta
from madang.core.errors import EngineError
from madang.server.openai.response_request import ResponseRequest
from tests.server.conftest import Script
from tests.server.doubles import done

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def respond(client: TestClient, **body: Any) -> httpx.Response:
    return client.post("/v1/responses", json={"model": "echo", "input": "hello", **body})


def told(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = respond(client, stream=True, **body)
    assert response.status_code == 200, response.text
    events = []
    for piece in response.text.split("\n\n")[:-1]:
        name, data = piece.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def core(**body: Any) -> Any:
    return ResponseRequest.model_validate({"model": "x", "input": "hello", **body}).core_request()


def test_an_answer_has_the_schema_of_a_response(client: TestClient) -> None:
    body = respond(client).json()
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    [item] = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}]
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"]
    assert body["madang"]["n_ctx"] == 200


def test_an_answer_that_was_cut_says_so(client: TestClient) -> None:
    body = respond(client, max_output_tokens=1).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_the_stream_ends_with_what_a_whole_answer_is(client: TestClient, script: Script) -> None:
    call = ToolCallDelta(ToolCall("c1", "weather", {"city": "서울"}))
    script(ReasoningDelta("we"), ReasoningDelta("ll"), TextDelta("h"), TextDelta("i"), call, done("tool_calls"))
    events = told(client, model="scripted", tools=[TOOL])
    whole = respond(client, model="scripted", tools=[TOOL]).json()

    def without_ids(response: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in item.items() if key != "id"} for item in response["output"]]

    assert without_ids(events[-1]["response"]) == without_ids(whole)
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call"]
    assert whole["output"][2]["arguments"] == '{"city": "서울"}'


def test_items_and_parts_are_begun_filled_and_ended(client: TestClient, script: Script) -> None:
    script(TextDelta("h"), TextDelta("i"), done())
    events = told(client, model="scripted")
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["output"] == []
    assert events[3]["part"]["text"] == ""
    assert events[6]["text"] == "hi"


def test_a_failure_in_the_middle_is_a_failed_response(client: TestClient, script: Script) -> None:
    script(TextDelta("so far"), EngineError("It broke."))
    last = told(client, model="scripted")[-1]
    assert (last["type"], last["response"]["error"]["message"]) == ("response.failed", "It broke.")


def test_a_failure_before_the_first_piece_has_its_status(client: TestClient) -> None:
    assert respond(client, model="other", stream=True).status_code == 404
    assert respond(client, input="x" * 1000, stream=True).json()["error"]["type"] == "exceed_context_size_error"


def test_probabilities_if_they_are_to_be_included(client: TestClient, script: Script) -> None:
    script(TextDelta("hi", (TokenLogprob(1, "hi", -0.5),)), done())
    body = respond(client, model="scripted", include=["message.output_text.logprobs"]).json()
    assert body["output"][0]["content"][0]["logprobs"][0]["logprob"] == -0.5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]}, "input.0.arguments"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"truncation": "some"}, "truncation"),
        ({"background": True}, "background"),
        ({"top_logprobs": 3}, "top_logprobs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, body: dict[str, Any], param: str) -> None:
    response = respond(client, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_conversation_of_items() -> None:
    request = core(
        instructions="Be brief.",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city": "서울"}'},
            {"type": "function_call_output", "call_id": "c2", "output": "rain"},
        ],
        tools=[TOOL],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": {"type": "text"}},
    )
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
    assert [call.id for call in request.messages[2].tool_calls] == ["c1", "c2"]
    assert (request.messages[3].name, request.tool_choice) == ("weather", "weather")


def test_a_form_of_the_answer() -> None:
    text = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}
    assert core(text=text).constraint == JsonSchema({"type": "object"})
