"""The page around the screens: languages, looks, keys, and whether everybody can use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from madang.server.keys import KeyFile
from tests.e2e.conftest import AXE, Visit
from tests.e2e.serving import ServerProcess
from tests.e2e.test_chat import conversation

SHOWN = (
    "# Title\n\nText with `code`, a [link](https://example.org) and\n\n- [x] a list\n\n| a | b |\n|---|---|\n| 1 | 2 |"
)


def test_korean_is_there_for_those_who_read_it(browser: Any, server: ServerProcess) -> None:
    context = browser.new_context(locale="ko-KR")
    page = Visit(context, server).open()
    page.get_by_role("heading", name="무엇을 이야기해 볼까요?").wait_for()
    assert page.locator("html").get_attribute("lang") == "ko"
    assert page.title() == "마당"
    page.get_by_label("메시지", exact=True).fill("hello")
    page.get_by_label("보내기").click()
    page.get_by_label("다시 답하기").wait_for(timeout=20_000)
    page.get_by_role("link", name="설정").click()
    page.get_by_text("English").click()
    page.get_by_role("heading", name="Settings").wait_for()
    page.reload()
    page.get_by_role("heading", name="Settings").wait_for()
    assert page.locator("html").get_attribute("lang") == "en"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_in_the_way_of_anybody(browser: Any, server: ServerProcess, scheme: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make page")
    context = browser.new_context(color_scheme=scheme, locale="en-US", viewport={"width": width, "height": 820})
    visit = Visit(context, server)
    for path in ("/chat", f"/chat/{conversation(server, 'Show me.', SHOWN)}", "/settings", "/documents"):
        page = visit.open(path)
        page.wait_for_timeout(300)  # for what fades in
        assert violations(page) == [], (path, scheme, width)
    context.close()


def violations(page: Any) -> list[str]:
    """What axe finds, as one line each."""
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def test_a_dark_page_stays_dark(visit: Visit) -> None:
    page = visit.open("/settings")
    page.get_by_text("Dark", exact=True).click()
    assert page.locator("html").get_attribute("data-mantine-color-scheme") == "dark"
    page.reload()
    assert page.locator("html").get_attribute("data-mantine-color-scheme") == "dark"


def test_every_screen_has_an_address_and_a_key(visit: Visit) -> None:
    for name in ("documents", "models", "compare", "monitor", "tokens", "settings"):
        page = visit.open(f"/{name}")
        page.get_by_role("heading", level=1, name=name.capitalize()).wait_for()
    page.keyboard.press("Alt+1")
    page.wait_for_url("**/chat")
    page.get_by_label("Message", exact=True).wait_for()
    page.keyboard.press("Control+k")
    page.get_by_label("Search conversations").and_(page.locator(":focus")).wait_for()


def test_the_first_tab_skips_to_the_content(visit: Visit) -> None:
    page = visit.open("/settings")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_a_server_with_keys_asks_for_one(browser: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(home / "models")
    secret = KeyFile(tmp_path).add("reader")
    server = ServerProcess(tmp_path, tmp_path / "server.log")
    server.start()
    context = browser.new_context(locale="en-US")
    try:
        page = Visit(context, server).open()
        dialog = page.get_by_role("dialog", name="This server wants a key")
        dialog.get_by_label("API key").fill("mdg-wrong")
        dialog.get_by_role("button", name="Use it").click()
        page.get_by_text("The server does not know this key.").wait_for()
        dialog.get_by_label("API key").fill(secret)
        dialog.get_by_role("button", name="Use it").click()
        dialog.wait_for(state="detached")
        page.reload()
        page.get_by_label("Message", exact=True).fill("Say hello.")
        page.keyboard.press("Enter")
        page.get_by_label("Answer again").wait_for(timeout=20_000)
        assert secret not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    finally:
        context.close()
        server.stop()
