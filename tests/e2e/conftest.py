"""The page in a real browser, over a real server with the starter model. Skipped, with a line, where one is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madang.server import webpage
from tests.e2e.serving import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# One that asks nothing of the world outside.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def expect(locator: Any) -> Any:
    """Playwright's assertions, which wait; imported late, because it may not be there."""
    from playwright.sync_api import expect

    return expect(locator)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    if not webpage.is_built():
        pytest.skip("the page is not built: make page")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt install chromium")
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """Chromium without a window.

    Ends with its module: as long as Playwright's synchronous interface is open, its event loop counts as running in
    this thread, and no other test could run one.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def home(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the starter model in it, and no conversations."""
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(starter_gguf.parents[1])
    return home


@pytest.fixture(scope="session")
def server(chromium: str, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server of all tests; one that ends it begins it again."""
    server = ServerProcess(home, tmp_path_factory.mktemp("log") / "server.log")
    server.start()
    yield server
    server.stop()


class Visit:
    """A tab that remembers what went wrong in it."""

    def __init__(self, context: Any, server: ServerProcess) -> None:
        self.context = context
        context.set_default_timeout(15_000)
        self.page = context.new_page()
        self.url = server.url
        self.troubles: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", self._see)

    def open(self, path: str = "/") -> Any:
        """The page at a path, when its first requests are done."""
        self.page.goto(self.url + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def ask(self, text: str, *, to_end: bool = True) -> None:
        """Send a message."""
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")
        if to_end:
            self.wait_for_end()

    def wait_for_end(self) -> None:
        """Until the answer is complete."""
        self.page.get_by_label("Answer again").last.wait_for(timeout=20_000)

    @property
    def answer(self) -> Any:
        """Where the answers are shown, first to last."""
        return self.page.locator("article[aria-label^='Answer of']")

    def _hear(self, message: Any) -> None:
        if "Content Security Policy" in message.text or "Warning:" in message.text:
            self.troubles.append(message.text)

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)


@pytest.fixture
def visit(browser: Any, server: ServerProcess) -> Iterator[Visit]:
    """A new reader in English, without a past. Nothing may fail unseen, nor anything be fetched from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 820}, locale="en-US", color_scheme="light")
    visit = Visit(context, server)
    yield visit
    assert not visit.troubles
    assert not visit.foreign
    context.close()
