"""The screens beside the chat: documents, models, compare, monitor, tokens."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.e2e.conftest import AXE, Visit, expect
from tests.e2e.serving import ServerProcess
from tests.e2e.test_page import violations
from tests.models.registry import Registry

SECOND = "smollm2:second"
BOTH = ("smollm2:135m", SECOND)
YARD = "# The yard\n\nThe gate of the yard is painted blue. It is opened at seven in the morning.\n"
POND = "# The pond\n\nNine carp live in the pond. They are fed with barley on Sundays.\n"


@pytest.fixture(scope="module")
def registry(starter_gguf: Path) -> Iterator[Registry]:
    """A place to pull from, which holds its files back until it is told."""
    weights = starter_gguf.read_bytes() + bytes(32)  # another digest than the starter's
    with Registry({"model": weights}, gate=threading.Event()).running() as registry:
        yield registry


@pytest.fixture(scope="module")
def own_server(
    browser: Any, registry: Registry, starter_gguf: Path, minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with a store of its own, in which models may come and go."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(starter_gguf.parents[1], home / "models", copy_function=_linked)
    (home / "config.toml").write_text(f'ollama_registry = "{registry.url}"\n')
    server = ServerProcess(home, home / "server.log")
    server.start()
    asked(server, "/api/copy", {"source": "smollm2:135m", "destination": SECOND})
    yield server
    server.stop()


def _linked(source: str, target: str) -> str:
    """A file takes no room twice, where the disk is the same."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def asked(server: ServerProcess, path: str, body: object) -> Any:
    """What the server answers to a POST; None where that is nothing."""
    with urlopen(Request(server.url + path, json.dumps(body).encode(), method="POST")) as answer:
        content = answer.read()
    return json.loads(content) if content else None


@pytest.fixture
def tab(browser: Any, own_server: ServerProcess) -> Iterator[Visit]:
    """A new reader in English."""
    context = browser.new_context(viewport={"width": 1280, "height": 820}, locale="en-US", color_scheme="light")
    visit = Visit(context, own_server)
    yield visit
    assert not visit.troubles
    assert not visit.foreign
    context.close()


def file_of(name: str, text: str) -> dict[str, Any]:
    """As a file chooser gives it."""
    return {"name": name, "mimeType": "text/markdown", "buffer": text.encode()}


def test_documents_are_added_found_and_opened_at_the_passage(tab: Visit) -> None:
    page = tab.open("/documents")
    page.get_by_role("button", name="New collection").click()
    page.get_by_label("Name").fill("house notes")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", level=1, name="house notes").wait_for()
    chosen = page.locator("input[type=file]")
    chosen.set_input_files([file_of("yard.md", YARD), file_of("pond.md", POND), file_of("empty.md", "")])
    page.get_by_text("3 of 3 over").wait_for(timeout=60_000)
    rows = page.get_by_role("list", name="On their way").get_by_role("listitem").all_inner_texts()
    assert ["Done" in row for row in rows] == [True, True, False]
    assert "empty" in rows[2]
    chosen.set_input_files([file_of("yard.md", YARD)])
    page.get_by_text("Unchanged: it is here already").wait_for(timeout=30_000)

    page.get_by_label("Question or words").fill("Which colour has the gate of the yard?")
    page.keyboard.press("Enter")
    page.get_by_text("Relevant: a question like this is answered").wait_for(timeout=30_000)
    first = page.locator("ol > li").first
    first.get_by_text("Meaning").wait_for()
    first.get_by_role("link").click()
    passage = page.locator("article[data-chosen]")
    expect(passage).to_contain_text("painted blue")
    assert passage.evaluate(
        "e => { const box = e.getBoundingClientRect(); return box.top >= 0 && box.top < innerHeight }"
    )

    page.reload()
    page.locator("article[data-chosen]").wait_for()
    page.get_by_role("link", name="Back to house notes").click()
    page.get_by_role("button", name="Delete The pond").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("“The pond” is deleted.").wait_for()
    page.get_by_role("link", name="The pond").wait_for(state="detached")


def test_a_collection_is_deleted_only_after_a_question(tab: Visit, own_server: ServerProcess) -> None:
    asked(own_server, "/madang/v1/collections", {"name": "old"})
    page = tab.open("/documents/old")
    page.get_by_role("button", name="More for old").click()
    page.get_by_role("menuitem", name="Delete the collection").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="More for old").click()
    page.get_by_role("menuitem", name="Delete the collection").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("The collection “old” is deleted.").wait_for()


def test_a_model_is_pulled_with_progress_loaded_and_deleted(tab: Visit, registry: Registry) -> None:
    page = tab.open("/models")
    page.get_by_role("button", name="Pull another").click()
    page.get_by_label("Name or address of a model").fill("ollama:tiny:1b")
    page.get_by_role("button", name="Pull", exact=True).click()
    page.get_by_role("progressbar").wait_for()
    assert registry.gate is not None
    registry.gate.set()
    page.get_by_text("Here now").wait_for(timeout=60_000)
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=re.compile("tiny:1b")))
    card.get_by_role("button", name="Load").click()
    card.get_by_role("button", name="Unload").wait_for(timeout=60_000)
    card.get_by_role("button", name="Plan").click()
    page.get_by_text("Settings, and why").wait_for()
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Unload").click()
    card.get_by_role("button", name="Load").wait_for()
    card.get_by_role("button", name=re.compile("^More for")).click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("came free").last.wait_for()
    card.wait_for(state="detached")


def test_a_pull_that_fails_says_why(tab: Visit) -> None:
    page = tab.open("/models")
    page.get_by_role("button", name="Pull another").click()
    page.get_by_label("Name or address of a model").fill("ollama:nobody/nothing")
    page.get_by_role("button", name="Pull", exact=True).click()
    page.get_by_role("button", name="Try again").wait_for(timeout=30_000)
    assert page.get_by_role("alert").inner_text()


def test_the_catalog_is_filtered_and_never_guesses_a_speed(tab: Visit) -> None:
    page = tab.open("/models/catalog")
    page.get_by_text(re.compile(r"^\d+ models")).wait_for(timeout=30_000)
    page.get_by_label("Search the catalog").fill("smollm2 135m")
    row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="smollm2:135m"))
    expect(row).to_contain_text("Installed")
    expect(row).to_contain_text("unknown")
    page.get_by_label("Search the catalog").fill("no such model")
    page.get_by_role("button", name="Clear the filters").click()
    page.get_by_text(re.compile(r"^\d+ models")).wait_for()


def test_two_models_answer_beside_each_other(tab: Visit) -> None:
    page = tab.open("/compare")
    page.get_by_label("Prompt").fill("What is the capital of France?")
    page.get_by_role("button", name="Ask all").click()
    for name in BOTH:
        lane = page.get_by_role("region", name=name)
        lane.get_by_text("Done").wait_for(timeout=60_000)
        expect(lane).to_contain_text("Paris")  # the likeliest words, in full precision of our engine
        expect(lane).to_contain_text("tokens/s")


def test_all_answers_stop_at_once(tab: Visit) -> None:
    page = tab.open("/compare")
    page.get_by_label("Prompt").fill("Write a very long story about a courtyard.")
    page.get_by_role("switch", name="Always the likeliest word").uncheck()  # what repeats itself is soon over
    page.get_by_label("Longest answer (tokens)").fill("1900")
    page.get_by_role("button", name="Ask all").click()
    page.get_by_text("Answering …").first.wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop all").click()
    page.get_by_role("button", name="Ask all").wait_for()
    for name in BOTH:
        expect(page.get_by_role("region", name=name).get_by_role("status")).to_have_text("Stopped")


def test_the_monitor_shows_a_request_while_it_runs(tab: Visit, browser: Any) -> None:
    page = tab.open("/compare")
    page.get_by_label("Prompt").fill("Write a very long story about a pond.")
    page.get_by_role("switch", name="Always the likeliest word").uncheck()
    page.get_by_label("Longest answer (tokens)").fill("1900")
    page.get_by_role("button", name="Ask all").click()
    page.get_by_text("Answering …").first.wait_for(timeout=60_000)
    page.get_by_role("link", name="Monitor").click()
    live = page.get_by_role("region", name="Requests now").first
    live.get_by_role("rowheader", name=SECOND).wait_for()
    expect(live).to_contain_text("/v1/chat/completions")
    page.get_by_role("link", name="Compare").click()  # it went on
    page.get_by_role("button", name="Stop all").click()


def test_korean_text_is_shown_as_tokens(tab: Visit) -> None:
    page = tab.open("/tokens")
    page.get_by_role("button", name="Korean", exact=True).click()
    page.get_by_label("Text", exact=True).fill("앗 a")
    tokens = page.get_by_role("group", name=re.compile("Tokens of smollm2:135m"))
    tokens.get_by_text("앗").wait_for()
    tokens.focus()
    page.keyboard.press("End")
    page.get_by_text("20 61").first.wait_for()  # the bytes of the last one
    page.get_by_role("region", name="Korean against English").first.get_by_text("times as much").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_screen_is_in_the_way_of_anybody(browser: Any, own_server: ServerProcess, scheme: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make page")
    context = browser.new_context(color_scheme=scheme, locale="ko-KR", viewport={"width": width, "height": 820})
    visit = Visit(context, own_server)
    paths = ("documents", "models", "models/catalog", "models/recommend", "compare", "compare/measured", "monitor")
    for path in (*paths, "tokens"):
        page = visit.open(f"/{path}")
        page.wait_for_timeout(300)
        assert violations(page) == [], (path, scheme, width)
        content = page.locator("#main > :last-child")
        assert content.evaluate("e => e.scrollWidth - e.clientWidth") == 0, f"{path} is wider than the window"
    context.close()


def test_screens_say_when_the_server_is_gone(browser: Any, tab: Visit) -> None:
    page = tab.open("/monitor")
    page.route("**/madang/v1/**", lambda route: route.abort())
    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Try again").wait_for()
    page.unroute("**/madang/v1/**")  # the page looks again by itself
    page.get_by_role("heading", name="smollm2:135m").wait_for()
