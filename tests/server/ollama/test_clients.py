"""Clients that were written for Ollama, unchanged, against a server with the starter model."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from madang.core import Loaded
from madang.core.errors import ModelNotFound
from madang.core.settings import Settings, load_settings
from madang.models import Manifest, ManifestFile, NameReference, Sources, Store
from madang.models.sources.ollama import OllamaSource
from madang.runtime import open_embedder, open_model
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.pulls import Pulls
from tests.models.registry import Registry
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint

ollama = pytest.importorskip("ollama")
pytest.importorskip("gguf")

CHAT, VECTORS = "smollm2:135m", "all-minilm:l6"
GREEDY = {"temperature": 0, "num_predict": 24}


class Opened:
    """A pool without limits: what was loaded stays, one of each set of files."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._store = settings, Store(settings.home)
        self._loaded: dict[Path, tuple[str, Loaded]] = {}
        self._lock = threading.Lock()
        self.n_leases = 0

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        from madang.models import parse_reference

        files = self._store.find(parse_reference(reference))
        if files is None:
            raise ModelNotFound(reference)
        with self._lock:
            if files.path not in self._loaded:
                opener = open_embedder if reference == VECTORS else open_model
                self._loaded[files.path] = (reference, opener(reference, self._settings))
            self.n_leases += 1
        try:
            yield self._loaded[files.path][1]
        finally:
            with self._lock:
                self.n_leases -= 1

    def unload(self, reference: str) -> bool:
        with self._lock:
            for path, (name, loaded) in self._loaded.items():
                if name == reference:
                    del self._loaded[path]
                    loaded.close()
                    return True
        return False

    def resident(self) -> list[object]:
        with self._lock:
            return [
                SimpleNamespace(
                    reference=name,
                    info=loaded.info,
                    size_bytes=1,
                    expires_at=datetime.now(UTC),
                    n_leases=0,
                    reason="It was asked for.",
                )
                for name, loaded in self._loaded.values()
            ]

    def close(self) -> None:
        for _, loaded in self._loaded.values():
            loaded.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    weights = write_checkpoint(MODEL, tmp_path_factory.mktemp("tiny") / "tiny.gguf").path.read_bytes()
    with Registry({"model": weights, "system": b"Be brief."}).running() as registry:
        yield registry


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path, minilm_folder: Path) -> Opened:
    """Over a store that refers to the models of the test cache."""
    home = tmp_path_factory.mktemp("home")
    put_beside(Store(home), NameReference("smollm2", "135m"), "gguf", [starter_gguf])
    folder = sorted(path for path in minilm_folder.rglob("*") if path.is_file())
    put_beside(Store(home), NameReference("all-minilm", "l6"), "huggingface", folder, minilm_folder)
    return Opened(load_settings({"home": home, "context": 512, "threads": 2}, {}))


def put_beside(store: Store, name: NameReference, format: Any, paths: list[Path], root: Path | None = None) -> None:
    files = []
    for path in paths:
        status = path.stat()
        own = path.name if root is None else path.relative_to(root).as_posix()
        files.append(ManifestFile(own, status.st_size, None, str(path), status.st_mtime_ns))
    store.commit(Manifest(name, format, "test", tuple(files), datetime(2026, 1, 1, tzinfo=UTC)))


@pytest.fixture(scope="module")
def url(pool: Opened, registry: Registry) -> Iterator[str]:
    """Of a server that runs in a thread of its own."""
    state = ServerState(pool=pool, store=pool._store, settings=pool._settings)
    app = create_app(state)
    app.state.pulls = Pulls(state.store, Sources(registry=OllamaSource(registry.url)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return ollama.Client(host=url)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(text: str = "What is the capital of France?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_chat(client: Any) -> None:
    answer = client.chat(CHAT, messages=ask(), options=GREEDY)
    assert "Paris" in answer.message.content
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", CHAT)
    assert answer.eval_count > 0
    assert answer.total_duration > answer.prompt_eval_duration > 0


def test_a_stream_says_the_same(client: Any) -> None:
    pieces = list(client.chat(CHAT, messages=ask(), options=GREEDY, stream=True))
    whole = client.chat(CHAT, messages=ask(), options=GREEDY).message.content
    assert "".join(piece.message.content for piece in pieces) == whole
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_generate_and_context(client: Any) -> None:
    first = client.generate(CHAT, "My name is Mina. Say hello to me.", options=GREEDY)
    second = client.generate(CHAT, "What is my name?", context=first.context, options=GREEDY)
    assert second.prompt_eval_count > first.prompt_eval_count
    assert "Mina" in second.response
    raw = client.generate(CHAT, "The capital of France is", raw=True, options=GREEDY)
    assert "Paris" in raw.response


def test_a_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
        "required": ["city", "people"],
    }
    answer = client.chat(CHAT, messages=ask(), format=schema, options={"temperature": 0, "num_predict": 60})
    assert set(json.loads(answer.message.content)) >= {"city", "people"}


def test_logprobs(client: Any) -> None:
    answer = client.chat(CHAT, messages=ask(), logprobs=True, top_logprobs=2, options={**GREEDY, "num_predict": 3})
    assert len(answer.logprobs) == 3
    assert answer.logprobs[0].top_logprobs[0].token == answer.logprobs[0].token


def test_tools_that_a_model_was_not_made_for(client: Any) -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return city

    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(CHAT, messages=ask(), tools=[weather])
    assert caught.value.status_code == 400
    assert "tools" in caught.value.error


def test_embed(client: Any) -> None:
    answer = client.embed(VECTORS, input=["a cat", "a kitten", "the stock market"])
    a, b, c = answer.embeddings
    assert sum(x * y for x, y in zip(a, b, strict=True)) > sum(x * y for x, y in zip(a, c, strict=True))
    assert len(client.embeddings(VECTORS, "a cat").embedding) == len(a) == 384
    assert len(client.embed(VECTORS, input="a cat", dimensions=16).embeddings[0]) == 16


def test_list_show_and_ps(client: Any) -> None:
    listed = {model.model: model for model in client.list().models}
    assert {CHAT, VECTORS} <= set(listed)
    assert listed[CHAT].details.family == "llama"
    document = client.show(CHAT)
    assert document.modelinfo["general.architecture"] == "llama"
    assert document.capabilities == ["completion"]
    assert client.show(VECTORS).capabilities == ["embedding"]
    client.generate(CHAT, "")
    assert CHAT in [model.model for model in client.ps().models]


def test_pull_create_copy_and_delete(client: Any) -> None:
    statuses = [line.status for line in client.pull("tiny:1b", stream=True)]
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")
    assert client.show("tiny:1b").modelinfo["llama.block_count"] > 0
    made = client.create("pirate", from_=CHAT, system="You are a pirate.", parameters={"temperature": 0})
    assert made.status == "success"
    assert "SYSTEM" in client.show("pirate").modelfile
    assert client.chat("pirate", messages=ask(), options={"num_predict": 4}).message.content
    client.copy("pirate", "pirate2")
    for name in ("pirate", "pirate2", "tiny:1b"):
        assert client.delete(name).status == "success"
    assert {model.model for model in client.list().models} == {CHAT, VECTORS}


def test_a_blob(client: Any, tmp_path: Path) -> None:
    path = write_checkpoint(MODEL, tmp_path / "own.gguf").path
    digest = client.create_blob(path)
    assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert client.create("own", files={"own.gguf": digest}).status == "success"
    assert client.delete("own").status == "success"


def test_errors(client: Any) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("nowhere:1b", messages=ask())
    assert (missing.value.status_code, "not found" in missing.value.error) == (404, True)
    with pytest.raises(ollama.ResponseError) as streamed:
        list(client.pull("nowhere:1b", stream=True))
    assert "not found" in streamed.value.error
    with pytest.raises(ollama.ResponseError) as long:
        client.chat(CHAT, messages=ask("word " * 2000))
    assert (long.value.status_code, "512" in long.value.error) == (400, True)


def test_a_client_that_leaves_gives_its_place_back(url: str, pool: Opened) -> None:
    async def leave() -> None:
        stream = await ollama.AsyncClient(host=url).chat(
            CHAT, messages=ask("Count to a thousand."), stream=True, options={"num_predict": 900}
        )
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave())
    wait_until(lambda: pool.n_leases == 0)


def test_unloading(client: Any, pool: Opened) -> None:
    client.generate(CHAT, "")
    assert client.generate(CHAT, "", keep_alive=0).done_reason == "unload"
    assert CHAT not in [model.model for model in client.ps().models]


def test_langchain(url: str) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    model = langchain.ChatOllama(model=CHAT, base_url=url, temperature=0, num_predict=24, validate_model_on_init=True)
    answer = model.invoke("What is the capital of France?")
    assert "Paris" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.content == "".join(piece.content for piece in model.stream("What is the capital of France?"))
    schema = {
        "title": "Place",
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    structured = model.with_structured_output(schema)
    assert "city" in structured.invoke("Name one city.")
    vectors = langchain.OllamaEmbeddings(model=VECTORS, base_url=url)
    assert len(vectors.embed_query("a cat")) == 384
