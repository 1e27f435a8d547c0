"""One server for all clients, and what each of them was seen to do with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from madang.models import NameReference, OllamaReference, Store
from madang.server.keys import KeyFile
from tests.compatibility.record import RECORD, Record
from tests.compatibility.serving import TEMPLATE, put, serving, with_template
from tests.compatibility.unlucky import installed
from tests.conftest import EMBEDDER, STARTER

HERE = Path(__file__).parent
TOOLS = "starter-tools:135m"  # the starter's weights, with a template that has tools and reasoning
REGISTRY = "someone/starter:135m"  # the starter, as if it came from the Ollama registry
PAGE_ORIGIN = "https://page.example"
CALLER = "caller"  # the one with tools, after examples of calls, which it then goes on with by itself

# Read when it is imported: it would ask another machine for a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

EXAMPLES = [
    message
    for city, weather in (("Paris", "sunny"), ("Busan", "windy"), ("Oslo", "snow"))
    for message in (
        {"role": "user", "content": f"What is the weather in {city}?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": city}}}],
        },
        {"role": "tool", "content": weather, "tool_name": "weather"},
        {"role": "assistant", "content": f"It is {weather} in {city}."},
    )
]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path, minilm_folder: Path) -> Path:
    """Of the server: the starter, the same with tools, the same from a registry, and the embedding model."""
    home = tmp_path_factory.mktemp("compatibility")
    store = Store(home)
    put(store, NameReference(*STARTER.split(":")), starter_gguf)
    put(store, NameReference(*EMBEDDER.split(":")), minilm_folder)
    put(store, OllamaReference("starter", "135m", "someone"), starter_gguf)
    put(store, NameReference(*TOOLS.split(":")), with_template(starter_gguf, TEMPLATE, home / "tools.gguf"))
    return home


@pytest.fixture(scope="session")
def url(home: Path) -> Iterator[str]:
    """Where it listens."""
    with serving(home, "--threads", "2", "--origins", PAGE_ORIGIN) as url:
        httpx.post(f"{url}/api/create", json={"model": CALLER, "from": TOOLS, "messages": EXAMPLES}).raise_for_status()
        yield url


@pytest.fixture(scope="session")
def unlucky_url(tmp_path_factory: pytest.TempPathFactory, starter_gguf: Path) -> Iterator[str]:
    """Of a server whose only engine breaks, or is slow."""
    home = tmp_path_factory.mktemp("unlucky")
    put(Store(home), NameReference("unlucky"), starter_gguf)  # a file, since it is asked for; nobody reads it
    with installed(tmp_path_factory.mktemp("package")), serving(home, "--engine", "unlucky") as url:
        yield url


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server that has no model, and wants a key; and that key."""
    home = tmp_path_factory.mktemp("guarded")
    key = KeyFile(home).add("someone")
    with serving(home, "--engine", "echo") as url:
        yield url, key


@pytest.fixture
def raw(url: str) -> Iterator[httpx.Client]:
    """For what a client sends that cannot run here, byte by byte."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows(feature, refused=None): what of the matrix a test shows")
    config.stash[RECORD] = Record()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that look at the record come after those that make it."""
    own = [item for item in items if item.path.is_relative_to(HERE)]
    items[:] = [item for item in items if item not in own] + sorted(
        own, key=lambda item: item.path.name == "test_page.py"
    )
    config.stash[RECORD].collected(own)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if item.path.is_relative_to(HERE):
        item.config.stash[RECORD].saw(item, report)
    return report
