"""Opens every engine of the table on a model of its format; what is not installed is skipped in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from madang.core import Engine
from madang.core.settings import load_settings
from madang.engines import engine_entries
from madang.runtime import open_model
from tests.conformance.speller import write_speller
from tests.engines.servers import echo_server, serving

CONTEXT_TOKENS = 512

OpenEngine = Callable[[int], Engine]


@pytest.fixture(scope="session", params=engine_entries(), ids=lambda entry: entry.name)
def open_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenEngine:
    """Loads the engine under test with a context of so many tokens; the caller closes it."""
    entry = request.param
    if not entry.is_installed():
        pytest.skip(f"the {entry.name} engine is not installed; {' and '.join(entry.missing())} cannot be found")
    if entry.name == "remote":
        return request.getfixturevalue("connect_engine")
    reference = "double"
    if entry.reads_files:
        model = "starter_gguf" if "gguf" in entry.formats else "speller"
        reference = f"file:{request.getfixturevalue(model)}"
    home: Path = tmp_path_factory.mktemp("home")

    def open_with(context_tokens: int) -> Engine:
        command_line = {"engine": entry.name, "context": context_tokens}
        return open_model(reference, load_settings(command_line, {"MADANG_HOME": str(home)}))

    return open_with


@pytest.fixture(scope="session")
def speller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder, for engines that read nothing else."""
    folder = tmp_path_factory.mktemp("models") / "speller"
    write_speller(folder)
    return folder


@pytest.fixture(scope="session")
def engine(open_engine: OpenEngine) -> Iterator[Engine]:
    """One engine for all tests, so that each also shows that the ones before left nothing behind."""
    with closing(open_engine(CONTEXT_TOKENS)) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def connect_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenEngine]:
    """The remote engine, on a server in this process that is asked for the context of each engine that is opened."""
    with ExitStack() as servers:

        def open_with(context_tokens: int) -> Engine:
            server = servers.enter_context(serving(echo_server("vllm", context_tokens)))
            settings = load_settings({}, {"MADANG_HOME": str(tmp_path_factory.mktemp("home"))})
            return open_model(f"remote:vllm+{server.url}/v1#double", settings)

        yield open_with
