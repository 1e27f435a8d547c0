"""Documents in a conversation: from the upload over the question to the passage that opens beside the answer.

What the model says is its own affair; where its answer comes from is not.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from tests.e2e.conftest import Visit
from tests.e2e.serving import ServerProcess
from tests.e2e.test_chat import asked

STORKS = """# Storks of the town

## Return

The storks come back to the rice fields in March, when the water is let in.

## Food

A stork eats about 500 grams of fish and frogs a day.
"""
YARD = """# 한옥의 마당

## 흰 마사토

안마당에는 흰 마사토를 깔았습니다. 흰 흙은 햇빛을 되비추어 대청과 방 안을 밝힙니다. 비가 오면 물이 빨리 빠집니다.

## 쓰임새

마당에서는 곡식을 말리고 김장을 하고 잔치를 열었습니다. 여름에는 데워진 마당으로 뒷산의 찬 공기가 대청을 지나 흐릅니다.
"""
WAIT_S = 60


def add(server: ServerProcess, collection: str, name: str, text: str) -> None:
    """Upload a document, and wait until it can be found."""
    path = f"/madang/v1/collections/{quote(collection)}/documents/{quote(name)}"
    with urlopen(Request(server.url + path, data=text.encode(), method="PUT"), timeout=WAIT_S):
        pass
    limit_s = time.monotonic() + WAIT_S
    while any(one["state"] not in ("done", "unchanged") for one in asked(server, "/madang/v1/ingests")["ingests"]):
        assert time.monotonic() < limit_s
        time.sleep(0.05)


@pytest.fixture(scope="module")
def notes(server: ServerProcess, minilm_folder: object) -> str:
    """A collection with one English and one Korean document."""
    asked(server, "/madang/v1/collections", {"name": "notes"})
    add(server, "notes", "storks.md", STORKS)
    add(server, "notes", "마당.md", YARD)
    return "notes"


def pick(page: Any, collection: str) -> None:
    """Choose it in the composer's menu."""
    page.get_by_role("button", name="Documents", exact=True).click()
    page.get_by_role("menuitemcheckbox", name=collection).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name=collection, exact=True).wait_for()


def sources(page: Any) -> Any:
    """Of all answers that are shown."""
    return page.get_by_role("list", name="Sources").get_by_role("button")


def session_of(page: Any, server: ServerProcess) -> Any:
    """The conversation that is shown, as the server keeps it."""
    return asked(server, f"/madang/v1/sessions/{page.url.rpartition('/')[2]}")


def end(page: Any, visit: Visit) -> None:
    """Have the answer end, since the smallest models may go on for minutes."""
    page.locator("article[aria-busy=true]").or_(page.get_by_label("Answer again")).first.wait_for()
    page.wait_for_timeout(1500)
    if page.get_by_label("Stop").count():
        page.get_by_label("Stop").click()
    visit.wait_for_end()


def test_a_source_opens_its_passage_and_survives_a_reload(visit: Visit, server: ServerProcess, notes: str) -> None:
    page = visit.open()
    pick(page, notes)
    visit.ask("When do the storks come back?", to_end=False)
    end(page, visit)
    sources(page).first.wait_for()
    source = sources(page).filter(has_text="Return")
    source.click()
    panel = page.get_by_role("complementary", name="Source")
    cited = panel.locator("mark")
    cited.wait_for()
    assert cited.inner_text().strip() in STORKS and "rice fields in March" in cited.inner_text()
    assert "500 grams" in panel.inner_text()  # the rest of the document stands around it
    n_sources = sources(page).count()
    page.reload()
    sources(page).first.wait_for()
    assert sources(page).count() == n_sources
    assert page.get_by_role("button", name=notes, exact=True).is_visible()
    kept = session_of(page, server)["messages"][1]["facts"]
    assert kept["is_grounded"] is True and len(kept["sources"]) == n_sources
    sources(page).filter(has_text="Return").click()
    assert "rice fields in March" in panel.locator("mark").inner_text()
    panel.get_by_label("Close the source").click()
    panel.wait_for(state="detached")


def test_a_korean_question_finds_the_korean_passage(visit: Visit, notes: str) -> None:
    page = visit.open()
    pick(page, notes)
    visit.ask("마당에 왜 흰 마사토를 깔았나요?", to_end=False)
    end(page, visit)
    sources(page).filter(has_text="흰 마사토").first.click()
    assert "햇빛을 되비추어" in page.get_by_role("complementary", name="Source").locator("mark").inner_text()


def test_what_the_documents_do_not_say_is_refused_also_after_what_they_do(visit: Visit, notes: str) -> None:
    page = visit.open()
    pick(page, notes)
    visit.ask("When do the storks come back?", to_end=False)
    end(page, visit)
    n_sources = sources(page).count()
    visit.ask("What is the capital of Mongolia?", to_end=False)
    page.get_by_text("Nothing in the documents answers this.").wait_for()
    assert sources(page).count() == n_sources


def test_a_persona_brings_its_documents_and_can_be_overruled(visit: Visit, server: ServerProcess, notes: str) -> None:
    asked(server, "/madang/v1/personas", {"name": "warden", "system": "Be brief.", "collections": [notes]})
    page = visit.open()
    page.get_by_label("Persona: No persona").click()
    page.get_by_role("menuitemradio", name="warden").click()
    page.get_by_role("button", name=notes, exact=True).click()
    box = page.get_by_role("menuitemcheckbox", name=notes)
    assert box.get_attribute("aria-checked") == "true"
    page.keyboard.press("Escape")
    visit.ask("When do the storks come back?", to_end=False)
    end(page, visit)
    assert sources(page).count() > 0
    page.get_by_role("button", name=notes, exact=True).click()
    box.click()
    page.keyboard.press("Escape")
    visit.ask("When do the storks come back?", to_end=False)
    end(page, visit)
    assert "sources" not in session_of(page, server)["messages"][-1]["facts"]
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="warden").first.click()
    dialog = page.get_by_role("dialog", name="warden")
    assert dialog.get_by_text(notes, exact=True).is_visible()


def test_a_collection_that_is_gone_can_be_taken_off(visit: Visit, server: ServerProcess, notes: str) -> None:
    asked(server, "/madang/v1/collections", {"name": "short-lived"})
    page = visit.open()
    pick(page, "short-lived")
    request = Request(f"{server.url}/madang/v1/collections/short-lived", method="DELETE")
    with urlopen(request, timeout=WAIT_S):
        pass
    page.reload()
    page.get_by_role("button", name="short-lived", exact=True).click()
    page.get_by_role("menuitemcheckbox", name="short-lived").click()
    page.get_by_role("button", name="Documents", exact=True).wait_for()
