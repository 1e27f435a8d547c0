"""The ``openai`` package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.compatibility.conftest import CALLER, PAGE_ORIGIN, REGISTRY, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, RED_DOT, WEATHER, is_person, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client("openai", '`OpenAI(base_url="http://127.0.0.1:11434/v1", api_key="none")`', "openai")


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def unlucky(unlucky_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{unlucky_url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: openai.OpenAI, model: str = STARTER, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": model, "messages": CAPITAL, "temperature": 0} | fields)  # type: ignore[call-overload]


@pytest.mark.shows("models")
def test_models(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {STARTER, EMBEDDER, f"ollama:{REGISTRY}"} <= set(listed)
    assert listed[STARTER].max_model_len == 8192  # type: ignore[attr-defined]
    assert client.models.retrieve(STARTER).id == STARTER


@pytest.mark.shows("chat")
@pytest.mark.parametrize("name", [STARTER, REGISTRY, f"ollama:{REGISTRY}"])
def test_chat(client: openai.OpenAI, name: str) -> None:
    answer = ask(client, name)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.timings["predicted_n"] == answer.usage.completion_tokens


@pytest.mark.shows("stream", "stream usage")
def test_stream(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    whole = ask(client)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        whole.choices[0].message.content
    )
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.shows("seed")
@pytest.mark.parametrize("seed", [7, -(2**63), 2**63 - 1, 2**64 - 1])
def test_seed(client: openai.OpenAI, seed: int) -> None:
    def said() -> str:
        text: str = ask(client, seed=seed, temperature=1.5, max_tokens=12).choices[0].message.content
        return text

    assert said() == said()


@pytest.mark.shows("several answers")
def test_several_answers(client: openai.OpenAI) -> None:
    answer = ask(client, n=3, seed=2**64 - 2, temperature=2, max_tokens=12)
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@pytest.mark.shows("tools")
def test_tools(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    first = ask(client, CALLER, messages=asked, tools=[WEATHER]).choices[0]
    [call] = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "rainy"}
    second = ask(client, CALLER, messages=[*asked, first.message.model_dump(), result], tools=[WEATHER])
    assert "rainy" in second.choices[0].message.content


@pytest.mark.shows("tool choice")
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tool_choice(client: openai.OpenAI, choice: Any) -> None:
    [call] = ask(client, TOOLS, tools=[WEATHER], tool_choice=choice).choices[0].message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}


@pytest.mark.shows("streamed tools")
def test_streamed_tools(client: openai.OpenAI) -> None:
    chunks = list(ask(client, TOOLS, tools=[WEATHER], tool_choice="required", stream=True))
    [call] = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert (call.function.name, set(json.loads(call.function.arguments))) == ("weather", {"city"})
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.shows("schema")
def test_schema(client: openai.OpenAI) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    assert is_person(ask(client, response_format=format).choices[0].message.content)


@pytest.mark.shows("reasoning")
def test_reasoning(client: openai.OpenAI) -> None:
    message = ask(client, TOOLS, reasoning_effort="low", max_tokens=8).choices[0].message
    assert message.reasoning_content
    assert not message.content
    answer = client.responses.create(model=TOOLS, input="Why?", reasoning={"effort": "low"}, max_output_tokens=8)
    assert answer.output[0].type == "reasoning"
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == answer.usage.output_tokens == 8


@pytest.mark.shows("logprobs")
def test_logprobs(client: openai.OpenAI) -> None:
    told = ask(client, logprobs=True, top_logprobs=3, max_tokens=3).choices[0].logprobs.content
    assert [len(token.top_logprobs) for token in told] == [3, 3, 3]


@pytest.mark.shows("text")
def test_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=STARTER, prompt="1, 2, 3, 4,", max_tokens=2, temperature=0)
    assert answer.choices[0].text.strip().startswith("5")


@pytest.mark.shows("responses")
@pytest.mark.parametrize("stream", [False, True])
def test_responses(client: openai.OpenAI, stream: bool) -> None:
    asked = {"model": STARTER, "input": CAPITAL, "temperature": 0}
    if not stream:
        assert "Paris" in client.responses.create(**asked).output_text  # type: ignore[call-overload]
        return
    with client.responses.stream(**asked) as events:  # type: ignore[arg-type]
        kinds = [event.type for event in events]
        assert "Paris" in events.get_final_response().output_text
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


@pytest.mark.shows("embeddings")
def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["a cat", "a kitten", "tax law"]
    in_base64 = client.embeddings.create(model=EMBEDDER, input=texts)  # what it asks for by itself
    as_floats = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    vectors = [row.embedding for row in in_base64.data]
    assert stay_closest(vectors)
    assert [pytest.approx(row.embedding, abs=1e-6) for row in as_floats.data] == vectors


@pytest.mark.shows("token counts")
def test_token_counts(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model=STARTER, input=CAPITAL)
    assert counted.input_tokens == ask(client).usage.prompt_tokens


@pytest.mark.shows("errors")
def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, "no-such-model")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, messages=too_long())
    assert (long.value.code, long.value.type) == ("context_length_exceeded", "exceed_context_size_error")
    assert long.value.body["n_prompt_tokens"] > long.value.body["n_ctx"]  # type: ignore[index]
    with pytest.raises(openai.BadRequestError) as wrong:
        ask(client, temperature=-1, stream=True)
    assert wrong.value.param == "temperature"


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky: openai.OpenAI) -> None:
    came = []
    with pytest.raises(openai.APIError, match="It broke"):
        for chunk in ask(unlucky, "unlucky", stream=True):
            came.append(chunk.choices[0].delta.content or "")
    assert "".join(came) == "so far"


@pytest.mark.shows("keep-alive")
def test_keep_alive(unlucky: openai.OpenAI) -> None:
    """What the stream begins with meanwhile is in the transcript of curl; this client must not see it."""
    stream = ask(unlucky, "unlucky", messages=[{"role": "user", "content": "slowly"}], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "slowly"


@pytest.mark.shows("keys")
def test_keys(guarded: tuple[str, str]) -> None:
    url, key = guarded
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        assert stranger.with_options(api_key=key).models.list().data == []


@pytest.mark.shows("cancellation")
def test_cancellation(client: openai.OpenAI) -> None:
    story = [{"role": "user", "content": "Tell a very long story."}]
    for _ in range(20):  # more than are answered at once
        with ask(client, messages=story, stream=True) as stream:
            next(iter(stream))
    assert ask(client, messages=story, max_tokens=4).usage.completion_tokens == 4


@pytest.mark.shows("images", refused="Models here read text; a picture is a 400 that names its place.")
def test_images(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": RED_DOT}}]
    with pytest.raises(openai.BadRequestError, match="image"):
        ask(client, messages=[{"role": "user", "content": parts}])


def test_its_headers_may_come_from_a_page(url: str) -> None:
    """Every ``x-stainless`` header that the package sends may also come from a page that is let in."""
    sent: list[str] = []
    with httpx.Client(event_hooks={"request": [lambda request: sent.extend(request.headers)]}) as http:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http)
        client.models.list()
    own = sorted({name for name in sent if name.startswith("x-stainless")})
    assert own
    asked = {
        "Origin": PAGE_ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ", ".join(["authorization", "content-type", *own]),
    }
    answer = httpx.options(f"{url}/v1/chat/completions", headers=asked)
    assert answer.is_success
    allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert set(own) <= allowed or "*" in allowed
