"""Makes the pictures of the screens beside the chat in ``docs/images``: ``python -m tests.e2e.screens_pictures``.

Look at them before they are kept. It takes minutes: models are made, measured and asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from playwright.sync_api import sync_playwright

from tests.conftest import EMBEDDER, STARTER, pulled
from tests.e2e.conftest import ARGUMENTS, CHROMIUM, ROOT, Visit
from tests.e2e.serving import ServerProcess

IMAGES = ROOT / "docs" / "images"
DOCUMENTS = ("docs/architecture.md", "docs/engine.md", "docs/how-to/serve.md", "docs/how-to/plan.md")
COLLECTION = "madang docs"
SMALLER = "smollm2:iq4_nl"
LARGER = "smollm2:q8_0"


def told(server: ServerProcess, method: str, path: str, body: bytes | None = None) -> Any:
    """What the server answers."""
    with urlopen(Request(server.url + path, body, method=method)) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def fill(server: ServerProcess) -> None:
    """Documents in a collection."""
    told(server, "POST", "/madang/v1/collections", json.dumps({"name": COLLECTION}).encode())
    for path in DOCUMENTS:
        place = f"/madang/v1/collections/{quote(COLLECTION)}/documents/{quote(Path(path).name)}"
        told(server, "PUT", place, (ROOT / path).read_bytes())
    wait(server, "/madang/v1/ingests", lambda body: all(one["document"] for one in body["ingests"]))


def quantized(home: Path, source: str, name: str, kind: str) -> None:
    """The same model in another type."""
    program = "import sys; from madang.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "quantize", source, name, "--type", kind]
    subprocess.run(command, check=True, env={**os.environ, "MADANG_HOME": str(home)}, capture_output=True)


def measure(server: ServerProcess) -> None:
    """Three types of the starter, side by side."""
    models = {"models": [LARGER, STARTER, SMALLER], "repetitions": 2}
    told(server, "POST", "/madang/v1/comparisons", json.dumps(models).encode())
    wait(server, "/madang/v1/comparisons", lambda body: body["comparisons"][0]["state"] != "measuring")


def wait(server: ServerProcess, path: str, is_so: Any) -> None:
    """Until what the server says is so."""
    limit_s = time.monotonic() + 300
    while not is_so(told(server, "GET", path)):
        if time.monotonic() > limit_s:
            raise TimeoutError(path)
        time.sleep(0.5)


def passage(server: ServerProcess) -> str:
    """Where a passage is shown in its document."""
    body = json.dumps({"query": "What happens to a request over HTTP?"}).encode()
    chunk = told(server, "POST", f"/madang/v1/collections/{quote(COLLECTION)}/search", body)["hits"][0]["chunk"]
    return f"/documents/{quote(COLLECTION)}/{chunk['document']}#{chunk['id']}"


def search(page: Any) -> None:
    """A search test, done."""
    page.get_by_role("textbox").first.fill("How does a model fit into memory?")
    page.keyboard.press("Enter")
    page.locator("ol > li").first.wait_for()


def ask(page: Any) -> None:
    """The same to two models, answered."""
    page.get_by_role("textbox").first.fill("What is a courtyard? Answer in two sentences.")
    page.keyboard.press("Enter")
    page.locator("section[data-state=done]").nth(1).wait_for(timeout=60_000)


def busy(page: Any) -> None:
    """The monitor while two models answer."""
    page.get_by_role("textbox").first.fill("Write a very long story about a courtyard.")
    page.get_by_role("switch").first.click(force=True)
    page.get_by_label("Longest answer (tokens)").fill("1900")
    page.get_by_role("button", name="Ask all").click()
    page.get_by_text("Answering …").first.wait_for(timeout=60_000)
    page.get_by_role("link", name="Monitor").click()
    page.wait_for_timeout(9000)


def look(page: Any) -> None:
    """At a token."""
    page.locator("[data-index='5']").first.hover()


def plan(page: Any) -> None:
    """Of the first model."""
    page.get_by_role("button", name="Plan", exact=True).nth(1).click()
    page.wait_for_timeout(600)


def nothing(page: Any) -> None:
    """As it opens."""


def take(browser: Any, server: ServerProcess, name: str, path: str, act: Any = nothing, **how: Any) -> None:
    """A picture of a screen, in English and light unless told otherwise."""
    look = {"locale": "en-US", "color_scheme": "light", "viewport": {"width": 1280, "height": 840}} | how
    context = browser.new_context(device_scale_factor=1.5, **look)
    page = Visit(context, server).open(path)
    act(page)
    page.wait_for_timeout(700)
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


def main() -> None:
    """All of them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    pulled(EMBEDDER)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        home = Path(folder)
        shutil.copytree(pulled(STARTER).parents[1], home / "models")
        server = ServerProcess(home, home / "server.log")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        server.start()
        korean = {"locale": "ko-KR"}
        narrow = {"viewport": {"width": 390, "height": 780}}
        try:
            quantized(home, STARTER, SMALLER, "IQ4_NL")
            quantized(home, STARTER, LARGER, "Q8_0")
            fill(server)
            take(browser, server, "documents", f"/documents/{quote(COLLECTION)}", search)
            take(browser, server, "documents-korean", f"/documents/{quote(COLLECTION)}", **korean)
            take(browser, server, "documents-passage", passage(server))
            take(browser, server, "models", "/models", plan)
            take(browser, server, "models-catalog", "/models/catalog")
            take(browser, server, "models-recommend-dark", "/models/recommend", **korean, color_scheme="dark")
            take(browser, server, "models-narrow", "/models/catalog", **narrow)
            take(browser, server, "tokens", "/tokens", look)
            take(browser, server, "tokens-korean-dark", "/tokens", look, **korean, color_scheme="dark")
            take(browser, server, "compare", "/compare", ask)
            take(browser, server, "monitor-dark", "/compare", busy, color_scheme="dark")
            measure(server)
            take(browser, server, "compare-measured", "/compare/measured")
        finally:
            server.stop()
            browser.close()


if __name__ == "__main__":
    main()
