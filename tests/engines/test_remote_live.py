"""The remote engine on a real server, ours, by each of the APIs that both know; its engine is the echo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from madang.core import Done, Engine, Message, Request, SamplingParams, collect, streaming
from madang.core.errors import ContextLengthExceeded, EngineError, EngineUnavailable, InvalidRequest
from madang.core.settings import load_settings
from madang.models import Store, StoredReference, parse_reference
from madang.models.manifest import Manifest, ManifestFile
from madang.runtime import open_model

CONTEXT_TOKENS = 64
KINDS = {"openai": "remote:{url}/v1#double", "ollama": "remote:ollama-server+{url}#double"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Iterator[str]:
    home = tmp_path_factory.mktemp("served")
    reference, status = parse_reference("double"), starter_gguf.stat()
    assert isinstance(reference, StoredReference)
    weights = ManifestFile("w.gguf", status.st_size, path=str(starter_gguf), modified_ns=status.st_mtime_ns)
    Store(home).commit(Manifest(reference, "gguf", "the starter", (weights,), datetime.now(UTC)))  # to be shown
    options = ["--port", "0", "--engine", "echo", "--context", str(CONTEXT_TOKENS)]
    environment = {**os.environ, "MADANG_HOME": str(home)}
    command = [sys.executable, "-m", "madang.cli", "serve", *options]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield server.stdout.readline().decode().strip()
        server.send_signal(signal.SIGTERM)


@pytest.fixture(params=KINDS)
def reference(request: pytest.FixtureRequest, url: str) -> str:
    return KINDS[request.param].format(url=url)


@pytest.fixture
def engine(reference: str, tmp_path: Path) -> Iterator[Engine]:
    settings = load_settings({"context": CONTEXT_TOKENS}, {"MADANG_HOME": str(tmp_path)})
    with closing(open_model(reference, settings)) as loaded:
        yield loaded


def chat(text: str, **options: object) -> Request:
    return Request(messages=(Message("user", text),), **options)  # type: ignore[arg-type]


def test_chat_raw_stop_limit_and_counts(engine: Engine) -> None:
    whole = collect(engine.generate(chat("one two three")))
    assert (whole.text, whole.done.finish_reason) == ("one two three", "stop")
    assert whole.done.usage.prompt_tokens > whole.done.usage.completion_tokens > 0
    assert collect(engine.generate(Request(prompt="마당 🙂"))).text == "마당 🙂"
    stopped = collect(engine.generate(chat("one two three", stop=(" three",))))
    assert (stopped.text, stopped.done.finish_reason) == ("one two", "stop")
    cut = collect(engine.generate(chat("one two three", max_tokens=2)))
    assert (cut.done.finish_reason, cut.done.usage.completion_tokens) == ("length", 2)
    assert whole.text.startswith(cut.text)


def test_log_probabilities(engine: Engine) -> None:
    answer = collect(engine.generate(chat("one two", sampling=SamplingParams(temperature=0, logprobs=1))))
    assert "".join(token.text for token in answer.logprobs) == answer.text


def test_what_is_too_long_or_wrong_is_the_error_that_it_is_there(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match=f"tokens.*holds {CONTEXT_TOKENS}") as caught:
        next(iter(engine.generate(chat("word " * 100))))
    if "ollama" not in engine.info.model:  # whose errors are a sentence and nothing else
        assert isinstance(caught.value, ContextLengthExceeded)
        assert caught.value.n_ctx == CONTEXT_TOKENS < caught.value.n_prompt_tokens
    with pytest.raises(InvalidRequest):
        next(iter(engine.generate(chat("one", sampling=SamplingParams(logprobs=1000)))))
    assert collect(engine.generate(chat("one"))).text == "one"


def test_leaving_and_many_at_once(engine: Engine) -> None:
    with streaming(engine, chat("one two three four")) as events:
        assert not isinstance(next(events), Done)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: collect(engine.generate(chat(f"word {n}"))).text, range(16)))
    assert answers == [f"word {n}" for n in range(16)]


def test_a_server_that_went_away_is_said_so(url: str, reference: str, tmp_path: Path) -> None:
    gone = reference.replace(url.rpartition(":")[2], "1")
    with pytest.raises((EngineUnavailable, EngineError), match="cannot be reached"):
        open_model(gone, load_settings({}, {"MADANG_HOME": str(tmp_path)}))
