"""Wire to request and events to wire, without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core import (
    JsonSchema,
    Message,
    ReasoningDelta,
    Request,
    SamplingParams,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from madang.core.errors import InvalidReference, InvalidRequest, UnknownOption
from madang.models import NameReference, OllamaReference, Store
from madang.models.parameters import IGNORED, KNOWN, read_parameters
from madang.server.names import find_origin, find_reference, shown
from madang.server.ollama.answering import ChatShape, Clock, GenerateShape, Lines, joined
from madang.server.ollama.asking import CHAT, GENERATE, Asked, read_chat, read_generate, within_context
from madang.server.ollama.body import Body, Fields, parse_body
from madang.server.ollama.durations import nanoseconds, read_keep_alive
from madang.server.ollama.embedding import EMBED, EMBEDDINGS
from madang.server.ollama.history import read_context, write_context
from madang.server.ollama.listing import SHOW
from madang.server.ollama.making import COPY, CREATE, DELETE
from madang.server.ollama.pulling import PULL
from tests.server.doubles import Scripted, done

HI = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> Asked:
    return read_chat(Body({"model": "m", "messages": HI, **fields}))


def generate(**fields: Any) -> Asked:
    return read_generate(Body({"model": "m", "prompt": "hi", **fields}))


def request_of(asked: Asked) -> Request:
    assert asked.request is not None
    return asked.request


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (1.5, 1.5),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
        ("-1", -1.0),
        (-1, -1.0),
        ("-1m", -1.0),
        (10**400, -1.0),
        ("100000h", -1.0),
    ],
)
def test_keep_alive(value: object, seconds: float | None) -> None:
    assert read_keep_alive(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", ["5 minutes", "m", "5x", True, [], {}, float("nan"), "1" * 100, "٥m"])
def test_what_is_no_keep_alive(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_keep_alive(value)
    assert caught.value.param == "keep_alive"


def test_durations_are_whole_nanoseconds() -> None:
    assert (nanoseconds(1.5), nanoseconds(0.0)) == (1_500_000_000, 1)


def test_options() -> None:
    options = {
        "num_ctx": 4096.0,
        "num_predict": 7,
        "seed": 0,
        "temperature": 0,
        "top_k": 3,
        "stop": ["a"],
        "min_p": None,
    }
    parameters = read_parameters({**options, "num_gpu": 99, "mirostat": 0, "typical_p": 0.5})
    assert parameters.sampling == SamplingParams(temperature=0, top_k=3, seed=0)
    assert (parameters.context_tokens, parameters.max_tokens, parameters.stop) == (4096, 7, ("a",))
    assert [warning.split("'")[1] for warning in parameters.warnings] == ["num_gpu", "typical_p"]


@pytest.mark.parametrize("num_predict", [-1, -2, 0])
def test_no_limit_of_tokens(num_predict: int) -> None:
    assert read_parameters({"num_predict": num_predict, "seed": -1}).max_tokens is None
    assert read_parameters({"seed": -1}).sampling == SamplingParams()


def test_every_option_is_in_one_list() -> None:
    assert len(KNOWN) == len(set(KNOWN))
    values: dict[str, Any] = dict.fromkeys(KNOWN, 1) | {
        "stop": ["x"],
        "typical_p": 0.5,
        "tfs_z": 0.5,
        "penalize_newline": False,
    }
    assert len(read_parameters(values).warnings) == len(IGNORED)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": True}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"num_ctx": -5}, "num_ctx"),
        ({"num_predict": "many"}, "num_predict"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_parameters(options)
    assert caught.value.param == param
    with pytest.raises(UnknownOption, match="num_ctxx"):
        read_parameters({"num_ctxx": 1})


@pytest.mark.parametrize("fields", [CHAT, GENERATE, EMBED, EMBEDDINGS, SHOW, PULL, CREATE, COPY, DELETE])
def test_every_field_is_in_one_list(fields: Fields) -> None:
    names = [*fields.honoured, *fields.ignored, *fields.refused]
    assert len(names) == len(set(names))
    for name in fields.refused:
        with pytest.raises(InvalidRequest) as caught:
            fields.check({name: "x"})
        assert caught.value.param == name
        assert fields.check({name: None}) == ()
    assert len(fields.check(dict.fromkeys((*fields.ignored, "from_the_future"), "x"))) == len(fields.ignored) + 1


def test_a_chat_with_everything() -> None:
    asked = chat(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}},
                {"id": "x", "function": {"index": 1, "name": "g", "arguments": '{"b": 2}'}},
            ]},
            {"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "call_0"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        format={"type": "object"},
        options={"num_ctx": 64},
        stream=False,
        keep_alive="1m",
        think=False,
        truncate=True,
        shift=True,
        logprobs=True,
        top_logprobs=2,
    )  # fmt: skip
    request = request_of(asked)
    assert request.messages == (
        Message("system", "be brief"),
        Message("assistant", "", (ToolCall("call_0", "f", {"a": 1}), ToolCall("x", "g", {"b": 2}))),
        Message("tool", "3", tool_call_id="call_0", name="f"),
    )
    assert request.tools == (Tool("f", "d", {"type": "object"}),)
    assert (request.constraint, request.reasoning) == (JsonSchema({"type": "object"}), False)
    assert (request.sampling.logprobs, request.context_tokens) == (2, 64)
    assert (asked.stream, asked.keep_alive_s, asked.truncate, asked.keeps) == (False, 60.0, True, False)
    assert [warning.split("'")[1] for warning in asked.warnings] == ["shift", "thinking"]


def test_what_a_chat_leaves_open() -> None:
    asked = chat(format=None, think=None, options=None, images=[])
    assert asked.stream
    assert (asked.keep_alive_s, asked.truncate, asked.warnings) == (None, False, ())
    assert request_of(asked) == Request(messages=(Message("user", "hi"),))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages"),
        ({"messages": [{"content": "hi"}]}, "role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "role"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "content"),
        ({"messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]}, "images"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]}]},
            "messages",
        ),
        ({"tools": [{"type": "web"}]}, "tools"),
        ({"tools": [{"function": {}}]}, "name"),
        ({"format": "yaml"}, "format"),
        ({"format": ["json"]}, "format"),
        ({"think": "deeply"}, "think"),
        ({"stream": "yes"}, "stream"),
        ({"options": [1]}, "options"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"options": {"stop": ["x"] * 17}}, "stop"),
    ],
)
def test_chats_that_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_generating() -> None:
    asked = generate(system="be brief", format="json", think="high", top_logprobs=3)
    assert request_of(asked).messages == (Message("system", "be brief"), Message("user", "hi"))
    assert request_of(asked).constraint == JsonSchema({"type": "object"})
    assert request_of(asked).reasoning is True
    assert asked.keeps
    assert len(asked.warnings) == 2
    raw = generate(raw=True, prompt="<|im_start|>")
    assert (request_of(raw).prompt, request_of(raw).messages, raw.keeps) == ("<|im_start|>", (), False)
    assert generate(prompt="").request is None
    assert generate(prompt="", raw=True).request is None


@pytest.mark.parametrize("name", ["images", "suffix", "template", "width"])
def test_what_generating_cannot_do(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generate(**{name: ["x"]})
    assert caught.value.param == name
    with pytest.raises(InvalidRequest):
        generate(raw=True, system="no")


def test_a_context_goes_on_with_the_conversation() -> None:
    numbers = write_context([Message("system", "old"), Message("user", "안녕"), Message("assistant", "hi")])
    assert all(isinstance(number, int) and 0 <= number < 256 for number in numbers)
    asked = generate(prompt="and?", context=json.loads(json.dumps(numbers)), system="new")
    assert [(message.role, message.content) for message in request_of(asked).messages] == [
        ("system", "new"),
        ("user", "안녕"),
        ("assistant", "hi"),
        ("user", "and?"),
    ]


@given(st.lists(st.integers(-1, 300), max_size=40))
def test_numbers_of_another_server(numbers: list[int]) -> None:
    if not numbers:
        assert read_context(numbers) == ()
        return
    for context in (numbers, list(b"madang\x01") + numbers):
        with pytest.raises(InvalidRequest):
            read_context(context)


@pytest.mark.parametrize(
    "content", [b"[1]", b'"x"', b"{", b"\xff", b"[] x", b"[" * 100, b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 10**6]
)
def test_bodies_that_are_none(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_body(content)
    assert parse_body(b"").fields == {}


def test_lines_of_a_chat() -> None:
    logprobs = (TokenLogprob(1, "Hi", -0.5, ((1, -0.5), (2, float("-inf"))), ("Hi", "Ho")),)
    events = [
        ReasoningDelta("so"),
        TextDelta("Hi", logprobs),
        ToolCallDelta(ToolCall("a", "f", {"x": 1})),
        ToolCallDelta(ToolCall("b", "g", {})),
    ]
    lines = Lines("m", ChatShape())
    wire = [lines.delta(event) for event in events]
    wire.append(lines.last(done("tool_calls"), Clock(3.0, 0.25), {"madang": {}}))
    assert [line["done"] for line in wire] == [False] * 4 + [True]
    assert wire[0]["message"] == {"role": "assistant", "content": "", "thinking": "so"}
    assert wire[1]["logprobs"][0]["top_logprobs"][1] == {"token": "Ho", "logprob": -9999.0, "bytes": [72, 111]}
    assert wire[3]["message"]["tool_calls"] == [{"id": "b", "function": {"index": 1, "name": "g", "arguments": {}}}]
    assert wire[4]["done_reason"] == "stop"
    assert (wire[4]["total_duration"], wire[4]["load_duration"]) == (3_000_000_000, 250_000_000)
    assert (wire[4]["prompt_eval_count"], wire[4]["eval_count"], wire[4]["eval_duration"]) == (7, 5, 2_000_000_000)
    whole = joined(wire, ChatShape())
    assert whole["message"]["content"] == "Hi"
    assert whole["message"]["thinking"] == "so"
    assert [call["function"]["name"] for call in whole["message"]["tool_calls"]] == ["f", "g"]
    assert (whole["done"], len(whole["logprobs"])) == (True, 1)


def test_lines_of_a_text() -> None:
    lines = Lines("m", GenerateShape())
    wire = [lines.delta(TextDelta("a")), lines.delta(TextDelta("b")), lines.last(done("length"), Clock(1, 1), {})]
    assert [line["response"] for line in wire] == ["a", "b", ""]
    assert (joined(wire, GenerateShape())["response"], wire[-1]["done_reason"]) == ("ab", "length")
    assert lines.bare("load")["done"] is True


def test_a_context_larger_than_the_models() -> None:
    request, warnings = within_context(Request(prompt="x", context_tokens=4096), Scripted().info)
    assert request.context_tokens is None
    assert "4096" in warnings[0]
    request, warnings = within_context(Request(prompt="x", context_tokens=10), Scripted().info)
    assert (request.context_tokens, warnings) == (10, ())


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("smollm2", "smollm2:135m"),
        ("smollm2:135M", "smollm2:135m"),
        ("SmolLM2:latest", "smollm2:135m"),
        ("mine", "mine:latest"),
        ("someone/mine", "ollama:someone/mine:latest"),
        ("hf.co/org/repo:latest", "hf:org/repo"),
        ("hf:org/repo", "hf:org/repo"),
        ("registry.ollama.ai/library/qwen3:0.6b", "qwen3:0.6b"),
        ("tests", "tests:latest"),  # which is a folder here, but no client may say so
    ],
)
def test_names(text: str, canonical: str, tmp_path: Any) -> None:
    assert str(find_reference(text, Store(tmp_path))) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:/etc/passwd",
        "/etc/passwd",
        "./x.gguf",
        "../x",
        "~/x",
        "a/b/c/d",
        "x\x00",
        "m" * 600,
        "evil.example:80/a/b",
    ],
)
def test_names_that_are_refused(text: str, tmp_path: Any) -> None:
    for read in (find_origin, lambda name: find_reference(name, Store(tmp_path))):
        with pytest.raises(InvalidReference):
            read(text)


def test_where_models_come_from() -> None:
    assert find_origin("smollm2") == NameReference("smollm2", "135m")
    assert find_origin("llama9.9:1b") == OllamaReference("llama9.9", "1b")
    assert shown("ollama:llama9.9:1b") == "llama9.9:1b"
    assert shown("ollama:someone/x:1b") == "someone/x:1b"
    assert shown("hf:org/repo") == "hf:org/repo"
