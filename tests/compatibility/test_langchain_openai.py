"""The ``langchain-openai`` package."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from tests.compatibility.conftest import CALLER, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, RED_DOT, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client(
    "langchain-openai",
    '`ChatOpenAI(base_url="http://127.0.0.1:11434/v1", api_key="none", model=…)`, and '
    "`OpenAIEmbeddings(…, check_embedding_ctx_length=False)`: it would send token ids of another tokenizer.",
    "langchain-openai",
)
QUESTION = CAPITAL[0]["content"]


@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return "rainy" if city == "Rome" else "unknown"


def model_at(url: str, name: str = STARTER, **fields: Any) -> ChatOpenAI:
    settings: Any = {"temperature": 0, "max_retries": 0, "timeout": 60, "max_completion_tokens": 48} | fields
    return ChatOpenAI(base_url=f"{url}/v1", api_key="none", model=name, **settings)  # type: ignore[arg-type]


@pytest.mark.shows("chat")
def test_chat(url: str) -> None:
    answer = model_at(url).invoke(QUESTION)
    assert "Paris" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


@pytest.mark.shows("stream", "stream usage")
def test_stream(url: str) -> None:
    model = model_at(url, stream_usage=True)
    chunks = list(model.stream(QUESTION))
    assert "".join(str(chunk.content) for chunk in chunks) == model.invoke(QUESTION).content
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


@pytest.mark.shows("seed")
def test_seed(url: str) -> None:
    model = model_at(url, seed=2**63 - 1, temperature=1.5)
    assert model.invoke(QUESTION).content == model.invoke(QUESTION).content


@pytest.mark.shows("tools")
def test_tools(url: str) -> None:
    model = model_at(url, CALLER).bind_tools([weather])
    asked: list[Any] = [HumanMessage("What is the weather in Rome?")]
    first = model.invoke(asked)
    [call] = first.tool_calls
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert "rainy" in str(model.invoke([*asked, first, result]).content)


@pytest.mark.shows("tool choice")
@pytest.mark.parametrize("choice", ["any", "weather"])
def test_tool_choice(url: str, choice: str) -> None:
    bound = model_at(url, TOOLS, max_completion_tokens=60).bind_tools([weather], tool_choice=choice)
    [call] = bound.invoke(QUESTION).tool_calls
    assert set(call["args"]) == {"city"}


@pytest.mark.shows("streamed tools")
def test_streamed_tools(url: str) -> None:
    model = model_at(url, CALLER).bind_tools([weather])
    [call] = [call for chunk in model.stream("What is the weather in Rome?") for call in chunk.tool_calls]
    assert (call["name"], call["args"]) == ("weather", {"city": "Rome"})


@pytest.mark.shows("schema")
@pytest.mark.parametrize(("method", "name"), [("json_schema", STARTER), ("function_calling", TOOLS)])
def test_schema(url: str, method: Any, name: str) -> None:
    structured = model_at(url, name, max_completion_tokens=80).with_structured_output(PERSON, method=method)
    assert set(structured.invoke("Make up a person.")) == {"name", "age"}  # type: ignore[arg-type]


@pytest.mark.shows("logprobs")
def test_logprobs(url: str) -> None:
    answer = model_at(url, logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2


@pytest.mark.shows("several answers")
def test_several_answers(url: str) -> None:
    result = model_at(url, n=2, temperature=2, seed=1).generate([[HumanMessage(QUESTION)]])
    assert len({generation.text for generation in result.generations[0]}) == 2


@pytest.mark.shows("text")
def test_text(url: str) -> None:
    model = OpenAI(base_url=f"{url}/v1", api_key="none", model=STARTER, temperature=0, max_tokens=8)  # type: ignore[arg-type]
    assert "Paris" in model.invoke("The capital of France is")


@pytest.mark.shows("responses")
def test_responses(url: str) -> None:
    model = model_at(url, use_responses_api=True)
    assert "Paris" in model.invoke(QUESTION).text
    assert "Paris" in "".join(chunk.text for chunk in model.stream(QUESTION))


@pytest.mark.shows("embeddings")
def test_embeddings(url: str) -> None:
    model = OpenAIEmbeddings(
        base_url=f"{url}/v1",
        api_key="none",
        model=EMBEDDER,
        check_embedding_ctx_length=False,  # type: ignore[arg-type]
    )
    assert stay_closest(model.embed_documents(["a cat", "a kitten", "tax law"]))


@pytest.mark.shows("errors")
def test_errors(url: str) -> None:
    with pytest.raises(openai.NotFoundError):
        model_at(url, "no-such-model").invoke(QUESTION)
    with pytest.raises(openai.BadRequestError, match="8192"):
        model_at(url).invoke(too_long())


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky_url: str) -> None:
    with pytest.raises(openai.APIError, match="It broke"):
        list(model_at(unlucky_url, "unlucky").stream(QUESTION))


@pytest.mark.shows("cancellation")
def test_cancellation(url: str) -> None:
    for _ in range(20):  # more than are answered at once
        stream = model_at(url, max_completion_tokens=4000).stream("Tell a very long story.")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert model_at(url, max_completion_tokens=4).invoke("Tell a story.").usage_metadata["output_tokens"] == 4  # type: ignore[index]


@pytest.mark.shows("images", refused="Models here read text; a picture is a 400 that names its place.")
def test_images(url: str) -> None:
    parts: Any = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": RED_DOT}}]
    with pytest.raises(openai.BadRequestError, match="image"):
        model_at(url).invoke([HumanMessage(parts)])
