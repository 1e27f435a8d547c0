"""The ``langchain-ollama`` package."""

from __future__ import annotations

from typing import Any

import ollama
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tests.compatibility.conftest import CALLER, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, RED_DOT, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER

CLIENT = Client(
    "langchain-ollama", "`ChatOllama(model=…)`, with `base_url` where the server listens elsewhere.", "langchain-ollama"
)
QUESTION = CAPITAL[0]["content"]


@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return "rainy" if city == "Rome" else "unknown"


def model_at(url: str, name: str = STARTER, **fields: Any) -> ChatOllama:
    return ChatOllama(**{"base_url": url, "model": name, "temperature": 0, "num_predict": 48} | fields)


@pytest.mark.shows("models")
def test_models(url: str) -> None:
    """It looks whether there is such a model, also when its tag is left out."""
    model_at(url, STARTER, validate_model_on_init=True)
    model_at(url, STARTER.split(":")[0], validate_model_on_init=True)
    with pytest.raises(ValueError, match="no-such-model"):
        model_at(url, "no-such-model", validate_model_on_init=True)


@pytest.mark.shows("chat")
def test_chat(url: str) -> None:
    answer = model_at(url).invoke(QUESTION)
    assert "Paris" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


@pytest.mark.shows("stream", "stream usage")
def test_stream(url: str) -> None:
    model = model_at(url)
    chunks = list(model.stream(QUESTION))
    assert "".join(str(chunk.content) for chunk in chunks) == model.invoke(QUESTION).content
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0


@pytest.mark.shows("seed")
def test_seed(url: str) -> None:
    model = model_at(url, seed=2**63, temperature=1.5)
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


@pytest.mark.shows("streamed tools")
def test_streamed_tools(url: str) -> None:
    model = model_at(url, CALLER).bind_tools([weather])
    [call] = [call for chunk in model.stream("What is the weather in Rome?") for call in chunk.tool_calls]
    assert (call["name"], call["args"]) == ("weather", {"city": "Rome"})


@pytest.mark.shows("schema")
def test_schema(url: str) -> None:
    structured = model_at(url, num_predict=80).with_structured_output(PERSON, method="json_schema")
    assert set(structured.invoke("Make up a person.")) == {"name", "age"}  # type: ignore[arg-type]


@pytest.mark.shows("reasoning")
def test_reasoning(url: str) -> None:
    answer = model_at(url, TOOLS, reasoning=True).invoke(QUESTION)
    assert answer.additional_kwargs["reasoning_content"]


@pytest.mark.shows("text")
def test_text(url: str) -> None:
    model = OllamaLLM(base_url=url, model=STARTER, temperature=0, num_predict=48)
    assert "Paris" in model.invoke(QUESTION)


@pytest.mark.shows("embeddings")
def test_embeddings(url: str) -> None:
    model = OllamaEmbeddings(base_url=url, model=EMBEDDER)
    assert stay_closest(model.embed_documents(["a cat", "a kitten", "tax law"]))


@pytest.mark.shows("errors")
def test_errors(url: str) -> None:
    with pytest.raises(ollama.ResponseError, match="not found"):
        model_at(url, "no-such-model").invoke(QUESTION)
    with pytest.raises(ollama.ResponseError, match="8192"):
        model_at(url).invoke(too_long())


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky_url: str) -> None:
    with pytest.raises(ollama.ResponseError, match="It broke"):
        list(model_at(unlucky_url, "unlucky").stream(QUESTION))


@pytest.mark.shows("keys")
def test_keys(guarded: tuple[str, str]) -> None:
    url, key = guarded
    with pytest.raises(ollama.ResponseError):
        model_at(url, "echo").invoke(QUESTION)
    headers = {"headers": {"Authorization": f"Bearer {key}"}}
    answer = ChatOllama(base_url=url, model="echo", client_kwargs=headers).invoke(QUESTION)
    assert answer.content == QUESTION


@pytest.mark.shows("cancellation")
def test_cancellation(url: str) -> None:
    for _ in range(20):  # more than are answered at once
        stream = model_at(url, num_predict=4000).stream("Tell a very long story.")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert model_at(url, num_predict=4).invoke("Tell a story.").usage_metadata["output_tokens"] == 4  # type: ignore[index]


@pytest.mark.shows("images", refused="Models here read text; a picture is a 400 that names its place.")
def test_images(url: str) -> None:
    parts: Any = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": RED_DOT}}]
    with pytest.raises(ollama.ResponseError, match="images"):
        model_at(url).invoke([HumanMessage(parts)])
