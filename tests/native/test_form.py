"""Tool calls and reasoning through the whole engine, with a model that knows nothing and is made to call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from madang.core import Completion, JsonSchema, Message, Request, SamplingParams, Tool, collect
from madang.core.errors import InvalidRequest
from madang.formats.dialects import dialect_for
from madang.native import NativeEngine, load
from tests.native import dialects
from tests.native.conftest import as_files, as_plan

WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "pattern": "^[가-힣a-z]{1,6}$"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "unit": {"$ref": "#/$defs/unit"},
            "all": {"type": "boolean"},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
        "$defs": {"unit": {"enum": ["C", "F", None]}},
    },
)
CLOCK = Tool("clock")
TIMER = Tool(
    "timer",
    parameters={"properties": {"s": {"type": "integer", "minimum": 0, "maximum": 99}}, "additionalProperties": False},
)
TEMPLATES = {
    "hermes": dialects.HERMES,
    "llama3": dialects.LLAMA3,
    "mistral": dialects.MISTRAL,
    "mistral, named": dialects.MISTRAL_NAMED,
    "phi": dialects.PHI,
    "pythonic": dialects.PYTHONIC,
    "tool_code": dialects.FENCED,
}


@contextmanager
def opened(folder: Path, template: str, *, controls: bool = True) -> Iterator[NativeEngine]:
    path = dialects.write_model(folder / "model.gguf", template, controls=controls)
    engine = load(as_files(path), as_plan(context_tokens=1000))
    try:
        yield engine
    finally:
        engine.close()


def ask(engine: NativeEngine, seed: int = 0, **options: Any) -> Completion:
    sampling = options.pop("sampling", SamplingParams(temperature=2.0, top_p=0.98, seed=seed))
    options = {"max_tokens": 300, "messages": (Message("user", "hi"),), **options}
    return collect(engine.generate(Request(sampling=sampling, **options)))


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_shows_the_dialect(name: str) -> None:
    calls = dialect_for(TEMPLATES[name]).calls
    assert calls is not None
    assert calls.name == name.partition(",")[0]


@pytest.mark.parametrize("controls", [True, False], ids=["control tokens", "plain text"])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_call_that_must_come_is_whole_and_valid(tmp_path: Path, template: str, controls: bool) -> None:
    tools = (WEATHER, CLOCK, TIMER) if template not in (dialects.PYTHONIC, dialects.FENCED) else (WEATHER, TIMER)
    with opened(tmp_path, template, controls=controls) as engine:
        for seed in range(4):
            completion = ask(engine, seed, tools=tools, tool_choice="get_weather")
            assert completion.done.finish_reason == "tool_calls", completion
            [call] = completion.tool_calls
            assert call.name == "get_weather"
            jsonschema.validate(dict(call.arguments), dict(WEATHER.parameters))
            assert completion.text == completion.reasoning == ""
        names = set()
        for seed in range(8):
            hot = SamplingParams(temperature=30.0, seed=seed)
            completion = ask(engine, tools=(WEATHER, TIMER), tool_choice="required", sampling=hot)
            names |= {call.name for call in completion.tool_calls}
        assert names == {"get_weather", "timer"}


def test_the_tokens_of_a_call_are_reported(tmp_path: Path) -> None:
    with opened(tmp_path, dialects.HERMES) as engine:
        options: dict[str, Any] = {"tools": (WEATHER,), "tool_choice": "required"}
        plain = ask(engine, 1, **options)
        reported = ask(engine, sampling=SamplingParams(temperature=2.0, top_p=0.98, seed=1, logprobs=0), **options)
        assert plain.tool_calls == reported.tool_calls
        text = b"".join(engine._model.tokenizer.token_bytes(token.token_id) for token in reported.logprobs).decode()
        assert text.startswith("<tool_call>\n{") and text.endswith("</tool_call>")
        assert len(reported.logprobs) == reported.done.usage.completion_tokens


def test_a_call_that_the_limit_cuts_is_text(tmp_path: Path) -> None:
    with opened(tmp_path, dialects.HERMES) as engine:
        completion = ask(engine, tools=(WEATHER,), tool_choice="required", max_tokens=12)
        assert completion.done.finish_reason == "length"
        assert completion.text.startswith("<tool_call>\n{")
        assert completion.tool_calls == ()


def test_tools_that_are_not_to_be_used_are_not_told(tmp_path: Path) -> None:
    with opened(tmp_path, dialects.HERMES) as engine:
        asked = {"messages": (Message("user", "hi"),), "tools": (WEATHER,)}
        without = engine.count_tokens(Request(messages=(Message("user", "hi"),)))
        assert engine.count_tokens(Request(**asked, tool_choice="none")) == without  # type: ignore[arg-type]
        assert engine.count_tokens(Request(**asked)) > without  # type: ignore[arg-type]
        free = ask(engine, tools=(WEATHER,), tool_choice="none", max_tokens=20)
        assert free.done.finish_reason in ("length", "stop")


def test_a_form_with_tools_told_but_not_chosen(tmp_path: Path) -> None:
    with opened(tmp_path, dialects.HERMES) as engine:
        assert ask(engine, tools=(CLOCK,), constraint=JsonSchema({"const": "가"})).text == '"가"'


@pytest.mark.parametrize(
    ("template", "options", "param"),
    [
        (dialects.NO_TOOLS, {"tools": (CLOCK,)}, "tools"),
        (dialects.HERMES, {"tools": (CLOCK,), "messages": (), "prompt": "x"}, "tools"),
        (dialects.UNKNOWN, {"tools": (CLOCK,), "tool_choice": "required"}, "tool_choice"),
        (dialects.HERMES, {"reasoning": True}, "reasoning"),
        (dialects.ALWAYS, {"reasoning": False}, "reasoning"),
        (dialects.SWITCH, {"reasoning": True, "messages": (), "prompt": "x"}, "reasoning"),
        (dialects.HERMES, {"tools": (Tool("f", parameters={"not": {}}),), "tool_choice": "f"}, "constraint"),
        (
            dialects.PYTHONIC,
            {"tools": (Tool("f", parameters={"properties": {"a b": {}}}),), "tool_choice": "f"},
            "tools",
        ),
    ],
)
def test_what_a_model_cannot_do_is_refused(tmp_path: Path, template: str, options: dict[str, Any], param: str) -> None:
    with opened(tmp_path, template) as engine:
        with pytest.raises(InvalidRequest) as caught:
            ask(engine, **options)
        assert caught.value.param == param
        assert ask(engine, max_tokens=3).done.usage.completion_tokens <= 3


def test_reasoning_is_switched_by_the_templates_own_variable(tmp_path: Path) -> None:
    only_a = SamplingParams(temperature=0, logit_bias={3 + ord("a"): 1000.0})
    with opened(tmp_path, dialects.SWITCH) as engine:
        for reasoning in (True, None):
            thinking = ask(engine, reasoning=reasoning, sampling=only_a, max_tokens=9)
            assert (thinking.reasoning, thinking.text) == ("a" * 9, "")
        plain = ask(engine, reasoning=False, sampling=only_a, max_tokens=9)
        assert (plain.reasoning, plain.text) == ("", "a" * 9)
    with opened(tmp_path, dialects.NO_TOOLS) as engine:
        assert ask(engine, reasoning=False, max_tokens=3).reasoning == ""  # there is none to turn off


@pytest.mark.parametrize("controls", [True, False], ids=["control tokens", "plain text"])
def test_a_form_begins_behind_the_reasoning(tmp_path: Path, controls: bool) -> None:
    """Plain-text models close their reasoning by chance once in a blue moon, so only the first part is seen there."""
    schema = {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 2}
    likes_to_close = {dialects_id("</think>"): 8.0} if controls else None
    with opened(tmp_path, dialects.ALWAYS, controls=controls) as engine:
        for seed in range(4):
            sampling = SamplingParams(temperature=1.0, seed=seed, logit_bias=likes_to_close)
            completion = ask(engine, constraint=JsonSchema(schema), sampling=sampling, max_tokens=120)
            if completion.done.finish_reason == "stop":
                assert (
                    completion.text in {"[1]", "[2]", *(f"[{a},{b}]" for a in (1, 2) for b in (1, 2))}
                    or " " in completion.text
                )
            else:
                assert not controls and completion.text == ""


def dialects_id(marker: str) -> int:
    return dialects.BYTE_TOKENS + dialects.MARKERS.index(marker)
