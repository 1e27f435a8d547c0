"""Unmodified clients against a server on a socket, with the starter model behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam

from madang.core import Loaded, TextDelta, ToolCall, ToolCallDelta
from madang.core.errors import EngineError
from madang.core.settings import load_settings
from madang.models import Store
from madang.runtime import Pool
from madang.server import ServerState
from madang.server.app import create_app
from tests.conftest import EMBEDDER, STARTER
from tests.server.doubles import Models, Scripted, done
from tests.server.serving import Endless, served

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
ENDLESS = Endless()


class WithDoubles(Pool):
    """Real models, and doubles for what the starter model cannot do."""

    doubles = Models(
        {
            "caller": Scripted(ToolCallDelta(ToolCall("call_1", "weather", {"city": "서울"})), done("tool_calls")),
            "breaking": Scripted(TextDelta("so far"), EngineError("It broke.")),
            "endless": ENDLESS,
        }
    )

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        pool = self.doubles if reference in self.doubles.models else super()
        with pool.lease(reference, keep_alive_s=keep_alive_s) as loaded:
            yield loaded


@pytest.fixture(scope="module")
def url(starter_gguf: Path, minilm_folder: Path) -> Iterator[str]:
    """Where the server listens. Its store is the one that the models were fetched into."""
    home = next(folder.parent for folder in starter_gguf.parents if folder.name == "models")
    settings = load_settings({"home": home}, {})
    with closing(WithDoubles(settings, budget_bytes=1 << 32)) as pool:
        state = ServerState(pool=pool, store=Store(home), settings=settings)
        with served(create_app(state)) as running:
            yield f"http://127.0.0.1:{running.port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_the_list_of_models(client: openai.OpenAI) -> None:
    assert {STARTER, EMBEDDER} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(STARTER).id == STARTER


def test_chat_and_stream_say_the_same(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat.completions.create(model=STARTER, messages=messages, temperature=0, max_tokens=16)  # type: ignore[call-overload]
    stream = client.chat.completions.create(
        model=STARTER, messages=messages, temperature=0, max_tokens=16, stream=True,
        stream_options={"include_usage": True},
    )  # type: ignore[call-overload]  # fmt: skip
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert "Paris" in text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert whole.madang["received_tokens"] == whole.usage.prompt_tokens


def test_several_answers_with_a_seed_are_the_same_again(client: openai.OpenAI) -> None:
    def texts() -> list[str | None]:
        answer = client.chat.completions.create(
            model=STARTER,
            messages=[{"role": "user", "content": "Tell a story."}],
            n=3,
            seed=1,
            max_tokens=12,
            temperature=1.0,  # the starter is greedy unless it is asked otherwise
        )
        return [choice.message.content for choice in answer.choices]

    first = texts()
    assert first == texts()
    assert len(set(first)) > 1


def test_an_answer_that_follows_a_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=STARTER,
        messages=[{"role": "user", "content": "Make up a person."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        max_tokens=80,
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"name", "age"}


def test_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=STARTER, messages=[{"role": "user", "content": "Hi"}], logprobs=True, top_logprobs=3, max_tokens=3
    )
    assert answer.choices[0].logprobs is not None
    told = answer.choices[0].logprobs.content
    assert told is not None
    assert [len(token.top_logprobs) for token in told] == [3, 3, 3]
    assert "".join(token.token for token in told).strip() == answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_comes_back_as_the_client_reads_it(client: openai.OpenAI, stream: bool) -> None:
    asked = {"model": "caller", "messages": [{"role": "user", "content": "weather?"}], "tools": [WEATHER]}
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))  # type: ignore[call-overload]
        [call] = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
    else:
        [call] = client.chat.completions.create(**asked).choices[0].message.tool_calls  # type: ignore[call-overload]
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_1", "weather", {"city": "서울"})


def test_texts_are_gone_on_with(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=STARTER, prompt="1, 2, 3, 4,", max_tokens=2, temperature=0)
    assert answer.choices[0].text.strip().startswith("5")


def test_vectors(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=EMBEDDER, input=["a cat", "a kitten", "tax law"])  # asks for base64
    cat, kitten, law = (row.embedding for row in answer.data)
    assert len(cat) == 384

    def closeness(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert closeness(cat, kitten) > closeness(cat, law)


@pytest.mark.parametrize("stream", [False, True])
def test_responses(client: openai.OpenAI, stream: bool) -> None:
    asked = {"model": STARTER, "input": "What is the capital of France?", "temperature": 0, "max_output_tokens": 16}
    if not stream:
        assert "Paris" in client.responses.create(**asked).output_text  # type: ignore[call-overload]
        return
    with client.responses.stream(**asked) as events:  # type: ignore[arg-type]
        kinds = [event.type for event in events]
        assert "Paris" in events.get_final_response().output_text
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


@pytest.mark.parametrize("stream", [False, True])
def test_messages(url: str, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)
    asked = {
        "model": STARTER,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "extra_body": {"temperature": 0},
    }
    if stream:
        with client.messages.stream(**asked) as events:  # type: ignore[arg-type]
            message = events.get_final_message()
    else:
        message = client.messages.create(**asked)  # type: ignore[call-overload]
    assert "Paris" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 30


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    hello = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=hello)  # type: ignore[arg-type]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as too_long:
        client.chat.completions.create(model=STARTER, messages=[{"role": "user", "content": "word " * 20_000}])
    assert too_long.value.body["n_prompt_tokens"] > too_long.value.body["n_ctx"]  # type: ignore[index]
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=STARTER, messages=hello, temperature=-1)  # type: ignore[arg-type]
    assert wrong.value.param == "temperature"


def test_a_failure_in_the_middle_raises_in_the_client(client: openai.OpenAI) -> None:
    hello = [{"role": "user", "content": "hello"}]
    stream = client.chat.completions.create(model="breaking", messages=hello, stream=True)  # type: ignore[call-overload]
    with pytest.raises(openai.APIError, match="It broke"):
        list(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_generation(url: str, stream: bool) -> None:
    ENDLESS.ended.clear()
    body = {"model": "endless", "messages": [{"role": "user", "content": "go on"}], "stream": stream}
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=1) as response:
            next(response.iter_bytes())
    except httpx.ReadTimeout:  # of the whole answer, which never comes
        assert not stream
    assert ENDLESS.ended.wait(20)


def test_a_real_generation_that_is_left_makes_room_for_the_next(client: openai.OpenAI) -> None:
    story = [{"role": "user", "content": "Tell a very long story."}]
    for _ in range(20):
        stream = client.chat.completions.create(model=STARTER, messages=story, stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        stream.close()
    answer = client.chat.completions.create(model=STARTER, messages=story, max_tokens=4)  # type: ignore[arg-type]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
