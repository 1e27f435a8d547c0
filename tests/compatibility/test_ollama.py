"""The ``ollama`` package."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.compatibility.conftest import CALLER, REGISTRY, TOOLS
from tests.compatibility.questions import CAPITAL, PERSON, RED_DOT, WEATHER, is_person, stay_closest, too_long
from tests.compatibility.record import Client
from tests.conftest import EMBEDDER, STARTER
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint

CLIENT = Client("ollama", "`Client()`, or `OLLAMA_HOST` where the server listens elsewhere.", "ollama")
GREEDY = {"temperature": 0, "num_predict": 48}


@pytest.fixture
def client(url: str) -> ollama.Client:
    return ollama.Client(host=url, timeout=60)


@pytest.fixture
def unlucky(unlucky_url: str) -> ollama.Client:
    return ollama.Client(host=unlucky_url, timeout=60)


def ask(client: ollama.Client, model: str = STARTER, **fields: Any) -> Any:
    return client.chat(**{"model": model, "messages": CAPITAL, "options": GREEDY} | fields)


@pytest.mark.shows("models")
def test_models(client: ollama.Client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert {STARTER, EMBEDDER, REGISTRY} <= set(listed)
    details = listed[STARTER].details
    assert details is not None
    assert (details.family, details.parameter_size) == ("llama", "135M")
    shown = client.show(TOOLS)
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192
    assert set(shown.capabilities or ()) == {"completion", "tools", "thinking"}


@pytest.mark.shows("chat")
@pytest.mark.parametrize("name", [STARTER, REGISTRY, f"ollama:{REGISTRY}"])
def test_chat(client: ollama.Client, name: str) -> None:
    answer = ask(client, name)
    assert "Paris" in answer.message.content
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", name)
    assert answer.prompt_eval_count > answer.eval_count > 0


@pytest.mark.shows("stream", "stream usage")
def test_stream(client: ollama.Client) -> None:
    pieces = list(ask(client, stream=True))
    whole = ask(client)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count


@pytest.mark.shows("seed")
@pytest.mark.parametrize("seed", [7, 2**63, 2**64 - 1])
def test_seed(client: ollama.Client, seed: int) -> None:
    options = {"temperature": 1.5, "num_predict": 12, "seed": seed}
    assert ask(client, options=options).message.content == ask(client, options=options).message.content


@pytest.mark.shows("tools")
def test_tools(client: ollama.Client) -> None:
    def weather(city: str) -> str:
        """Tells the weather of a city.

        Args:
            city: where
        """
        return "rainy" if city == "Rome" else "unknown"

    asked: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    first = ask(client, CALLER, messages=asked, tools=[weather])
    [call] = first.message.tool_calls
    result = {"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}
    second = ask(client, CALLER, messages=[*asked, first.message, result], tools=[weather])
    assert "rainy" in second.message.content


@pytest.mark.shows("streamed tools")
def test_streamed_tools(client: ollama.Client) -> None:
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    pieces = list(ask(client, CALLER, messages=asked, tools=[WEATHER], stream=True))
    [call] = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Rome"})


@pytest.mark.shows("schema")
def test_schema(client: ollama.Client) -> None:
    assert is_person(ask(client, format=PERSON, options={"temperature": 0, "num_predict": 80}).message.content)


@pytest.mark.shows("reasoning")
def test_reasoning(client: ollama.Client) -> None:
    message = ask(client, TOOLS, think=True).message
    assert message.thinking
    assert not message.content
    assert "Paris" in ask(client, TOOLS, think=False).message.content


@pytest.mark.shows("logprobs")
def test_logprobs(client: ollama.Client) -> None:
    answer = ask(client, logprobs=True, top_logprobs=2, options={**GREEDY, "num_predict": 3})
    assert [len(token.top_logprobs) for token in answer.logprobs] == [2, 2, 2]


@pytest.mark.shows("text")
def test_text(client: ollama.Client) -> None:
    assert "Paris" in client.generate(STARTER, "The capital of France is", raw=True, options=GREEDY).response
    first = client.generate(STARTER, "My name is Mina. Say hello to me.", options=GREEDY)
    assert "Mina" in client.generate(STARTER, "What is my name?", context=first.context, options=GREEDY).response


@pytest.mark.shows("embeddings")
def test_embeddings(client: ollama.Client) -> None:
    answer = client.embed(EMBEDDER, input=["a cat", "a kitten", "tax law"])
    assert stay_closest(answer.embeddings)
    assert client.embeddings(EMBEDDER, "a cat").embedding == pytest.approx(answer.embeddings[0])


@pytest.mark.shows("management")
def test_management(client: ollama.Client, tmp_path: Path) -> None:
    """Pulling from a registry needs one, and is tested with one that listens on loopback, in tests/server/ollama."""
    statuses = [line.status for line in client.pull(STARTER, stream=True)]
    assert statuses[-1] == "success"
    digest = client.create_blob(write_checkpoint(MODEL, tmp_path / "tiny.gguf").path)
    assert client.create("tiny", files={"tiny.gguf": digest}).status == "success"
    assert client.create("pirate", from_=STARTER, system="You are a pirate.").status == "success"
    client.copy("pirate", "corsair")
    assert "pirate" in client.show("corsair").modelfile  # type: ignore[operator]
    assert client.generate("corsair", "").done_reason == "load"
    assert STARTER.split(":")[0] in str(client.ps()) or "corsair:latest" in str(client.ps())
    assert client.generate("corsair", "", keep_alive=0).done_reason == "unload"
    for name in ("tiny", "pirate", "corsair"):
        assert client.delete(name).status == "success"
    assert not {"tiny:latest", "pirate:latest", "corsair:latest"} & {model.model for model in client.list().models}


@pytest.mark.shows("errors")
def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        ask(client, "nowhere:1b")
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="8192") as long:
        ask(client, messages=too_long())
    assert long.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="temperature"):
        ask(client, options={"temperature": -1})
    with pytest.raises(ollama.ResponseError, match="tools"):
        ask(client, tools=[WEATHER])  # of a model that was not made for them


@pytest.mark.shows("errors in streams")
def test_errors_in_streams(unlucky: ollama.Client) -> None:
    came = []
    with pytest.raises(ollama.ResponseError, match="It broke"):
        for piece in ask(unlucky, "unlucky", stream=True):
            came.append(piece.message.content)
    assert "".join(came) == "so far"


@pytest.mark.shows("keys")
def test_keys(guarded: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, key = guarded
    with pytest.raises(ollama.ResponseError) as refused:
        ollama.Client(host=url).list()
    assert refused.value.status_code == 401
    monkeypatch.setenv("OLLAMA_API_KEY", key)  # where the package itself looks
    assert list(ollama.Client(host=url).list().models) == []


@pytest.mark.shows("cancellation")
def test_cancellation(url: str, client: ollama.Client) -> None:
    story: Any = [{"role": "user", "content": "Tell a very long story."}]

    async def leave() -> None:
        stream: Any = await ollama.AsyncClient(host=url).chat(STARTER, messages=story, stream=True)
        await anext(stream)
        await stream.aclose()

    for _ in range(20):  # more than are answered at once
        asyncio.run(leave())
    assert ask(client, messages=story, options={"num_predict": 4}).eval_count == 4


@pytest.mark.shows("images", refused="Models here read text; a picture is a 400 that names its place.")
def test_images(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="images") as refused:
        ask(client, messages=[{"role": "user", "content": "?", "images": [RED_DOT.partition(",")[2]]}])
    assert refused.value.status_code == 400
