"""The ``litellm`` package, by each of the three APIs that it speaks."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

from tests.compatibility.conftest import CALLER, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, WEATHER, is_person, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client(
    "litellm",
    '`completion(model="openai/…", api_base="http://127.0.0.1:11434/v1", api_key="none")`, or `"ollama_chat/…"` and '
    '`"anthropic/…"` with `api_base="http://127.0.0.1:11434"`.',
    "litellm",
)
BASES = {"openai": "/v1", "ollama_chat": "", "anthropic": ""}
both = pytest.mark.parametrize("api", ["openai", "ollama_chat", "anthropic"])


def ask(url: str, api: str = "openai", model: str = STARTER, **fields: Any) -> Any:
    settings = {"messages": CAPITAL, "temperature": 0, "max_tokens": 48, "num_retries": 0, "timeout": 60}
    base = url + BASES[api]
    return litellm.completion(model=f"{api}/{model}", api_base=base, api_key="none", **{**settings, **fields})


@pytest.mark.shows("chat")
@both
def test_chat(url: str, api: str) -> None:
    answer = ask(url, api)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


@pytest.mark.shows("stream", "stream usage")
@both
def test_stream(url: str, api: str) -> None:
    chunks = list(ask(url, api, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ask(url, api).choices[0].message.content
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.shows("seed")
def test_seed(url: str) -> None:
    first, second = (ask(url, seed=2**63 - 1, temperature=1.5).choices[0].message.content for _ in range(2))
    assert first == second


@pytest.mark.shows("tools")
@both
def test_tools(url: str, api: str) -> None:
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    first = ask(url, api, CALLER, messages=asked, tools=[WEATHER]).choices[0].message
    [call] = first.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    result = {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "rainy"}
    second = ask(url, api, CALLER, messages=[*asked, first.model_dump(), result], tools=[WEATHER])
    assert "rainy" in second.choices[0].message.content


@pytest.mark.shows("tool choice")
@pytest.mark.parametrize("api", ["openai", "anthropic"])  # Ollama's has no such field
def test_tool_choice(url: str, api: str) -> None:
    answer = ask(url, api, TOOLS, tools=[WEATHER], tool_choice="required", max_tokens=60)
    [call] = answer.choices[0].message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}


@pytest.mark.shows("schema")
@pytest.mark.parametrize("api", ["openai", "ollama_chat"])
def test_schema(url: str, api: str) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    assert is_person(ask(url, api, response_format=format, max_tokens=80).choices[0].message.content)


@pytest.mark.shows("reasoning")
def test_reasoning(url: str) -> None:
    answer = ask(url, model=TOOLS, extra_body={"reasoning_effort": "low"})
    assert answer.choices[0].message.reasoning_content


@pytest.mark.shows("embeddings")
@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_embeddings(url: str, api: str) -> None:
    base = url + ("/v1" if api == "openai" else "")
    texts = ["a cat", "a kitten", "tax law"]
    answer = litellm.embedding(model=f"{api}/{EMBEDDER}", input=texts, api_base=base, api_key="none")
    assert stay_closest([row["embedding"] for row in answer.data])


@pytest.mark.shows("errors")
@both
def test_errors(url: str, api: str) -> None:
    with pytest.raises((litellm.NotFoundError, litellm.APIConnectionError), match="no-such-model"):
        ask(url, api, "no-such-model")
    with pytest.raises((litellm.BadRequestError, litellm.APIConnectionError), match="8192"):
        ask(url, api, messages=too_long())


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky_url: str) -> None:
    with pytest.raises(Exception, match="It broke"):
        list(ask(unlucky_url, model="unlucky", stream=True))


@pytest.mark.shows("cancellation")
def test_cancellation(url: str) -> None:
    story = [{"role": "user", "content": "Tell a very long story."}]
    for _ in range(20):  # more than are answered at once
        stream = ask(url, messages=story, stream=True, max_tokens=4000)
        next(stream)
        stream.completion_stream.close()
    assert ask(url, messages=story, max_tokens=4).usage.completion_tokens == 4
