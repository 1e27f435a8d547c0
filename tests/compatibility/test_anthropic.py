"""The ``anthropic`` package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.compatibility.conftest import CALLER, REGISTRY, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, RED_DOT, WEATHER, is_person, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client("anthropic", '`Anthropic(base_url="http://127.0.0.1:11434", api_key="none")`', "anthropic")
FUNCTION = WEATHER["function"]
TOOL: Any = {
    "name": FUNCTION["name"],
    "description": FUNCTION["description"],
    "input_schema": FUNCTION["parameters"],
}


@pytest.fixture
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def unlucky(unlucky_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=unlucky_url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def fields(**more: Any) -> Any:
    return {"model": STARTER, "messages": CAPITAL, "max_tokens": 48, "extra_body": {"temperature": 0}} | more


@pytest.mark.shows("models")
def test_models(client: anthropic.Anthropic) -> None:
    assert {STARTER, EMBEDDER} <= {model.id for model in client.models.list()}


@pytest.mark.shows("chat")
@pytest.mark.parametrize("name", [STARTER, REGISTRY])
def test_chat(client: anthropic.Anthropic, name: str) -> None:
    message = client.messages.create(**fields(model=name))
    assert "Paris" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > message.usage.output_tokens > 0


@pytest.mark.shows("stream", "stream usage")
def test_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**fields()) as events:
        heard = list(events)
        message = events.get_final_message()
    whole = client.messages.create(**fields())
    assert message.content[0].text == whole.content[0].text
    assert message.usage.output_tokens == whole.usage.output_tokens
    [start] = [event for event in heard if event.type == "message_start"]
    assert start.message.usage.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


@pytest.mark.shows("tools")
def test_tools(client: anthropic.Anthropic) -> None:
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    first = client.messages.create(**fields(model=CALLER, messages=asked, tools=[TOOL]))
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert (first.stop_reason, call.input) == ("tool_use", {"city": "Rome"})
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rainy"}]}
    turns = [*asked, {"role": "assistant", "content": first.content}, result]
    second = client.messages.create(**fields(model=CALLER, messages=turns, tools=[TOOL]))
    assert "rainy" in second.content[0].text


@pytest.mark.shows("tool choice")
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_tool_choice(client: anthropic.Anthropic, choice: Any) -> None:
    message = client.messages.create(**fields(model=TOOLS, tools=[TOOL], tool_choice=choice, max_tokens=60))
    [call] = [block for block in message.content if block.type == "tool_use"]
    assert set(call.input) == {"city"}


@pytest.mark.shows("streamed tools")
def test_streamed_tools(client: anthropic.Anthropic) -> None:
    asked = fields(model=TOOLS, tools=[TOOL], tool_choice={"type": "any"}, max_tokens=60)
    with client.messages.stream(**asked) as events:
        message = events.get_final_message()
    [call] = message.content
    assert call.type == "tool_use"
    assert set(call.input) == {"city"}


@pytest.mark.shows("schema")
def test_schema(client: anthropic.Anthropic) -> None:
    format = {"format": {"type": "json_schema", "schema": PERSON}}
    assert is_person(client.messages.create(**fields(output_config=format, max_tokens=80)).content[0].text)


@pytest.mark.shows("reasoning")
def test_reasoning(client: anthropic.Anthropic) -> None:
    asked = fields(model=TOOLS, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=8)
    assert client.messages.create(**asked).content[0].type == "thinking"


@pytest.mark.shows("token counts")
def test_token_counts(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=STARTER, messages=CAPITAL)  # type: ignore[arg-type]
    usage = client.messages.create(**fields()).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.shows("errors")
def test_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**fields(model="no-such-model"))
    with pytest.raises(anthropic.BadRequestError, match="8192"):
        client.messages.create(**fields(messages=too_long()))
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(**fields(max_tokens=0))


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIError, match="It broke"),
        unlucky.messages.stream(**fields(model="unlucky")) as events,
    ):
        events.get_final_message()


@pytest.mark.shows("keys")
def test_keys(guarded: tuple[str, str]) -> None:
    url, key = guarded
    with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            stranger.messages.create(**fields(model="echo"))
        assert stranger.with_options(api_key=key).messages.create(**fields(model="echo")).content


@pytest.mark.shows("cancellation")
def test_cancellation(client: anthropic.Anthropic) -> None:
    story = [{"role": "user", "content": "Tell a very long story."}]
    for _ in range(20):  # more than are answered at once
        with client.messages.stream(**fields(messages=story, max_tokens=4000)) as stream:
            next(iter(stream))
    assert client.messages.create(**fields(messages=story, max_tokens=4)).usage.output_tokens == 4


@pytest.mark.shows("images", refused="Models here read text; a picture is a 400 that names its place.")
def test_images(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": RED_DOT.partition(",")[2]}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    with pytest.raises(anthropic.BadRequestError, match="image"):
        client.messages.create(**fields(messages=[{"role": "user", "content": parts}]))
