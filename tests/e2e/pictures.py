"""Makes the pictures of the page in ``docs/images``, to be looked at: ``python -m tests.e2e.pictures``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.conftest import STARTER, pulled
from tests.e2e.conftest import ARGUMENTS, CHROMIUM, ROOT, Visit
from tests.e2e.serving import ServerProcess
from tests.e2e.test_chat import asked

IMAGES = ROOT / "docs" / "images"
ENGLISH = (
    "How do I find the median of a list in Python?",
    """Sort the list, then take the middle:

```python
def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
```

- With an **odd** number of values there is one in the middle.
- With an **even** number, it is the mean of the two: $\\frac{x_{n/2} + x_{n/2+1}}{2}$.""",
    "What is the capital of France?",
)
KOREAN = (
    "한옥의 마당은 어떤 곳이야?",
    """한옥의 **마당**은 집과 집 사이를 잇는 빈자리입니다.

1. **빛과 바람**이 드나듭니다. 흰 마사토가 햇빛을 되비춰 처마 밑까지 밝힙니다.
2. **일하는 곳**입니다. 곡식을 말리고 장을 담급니다.
3. **모이는 곳**입니다. 잔치도 제사도 여기에서 치릅니다.

| 마당 | 자리 |
|---|---|
| 안마당 | 안채 앞 |
| 사랑마당 | 사랑채 앞 |""",
    "",  # the starter model knows no Korean
)


def begin(server: ServerProcess, *messages: str) -> str:
    """A session in which this was said; its path."""
    said = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(messages)]
    return f"/chat/{asked(server, '/madang/v1/sessions/import', {'document': {'messages': said}})['id']}"


def take(browser: Any, server: ServerProcess, name: str, talk: tuple[str, str, str], **look: Any) -> None:
    """A picture of a conversation; the answer to its last question, if it has one, is the model's own."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 840}, "device_scale_factor": 1.5} | look)
    visit = Visit(context, server)
    page = visit.open(begin(server, *talk[:2]))
    if talk[2]:
        page.locator("textarea").fill(talk[2])
        page.keyboard.press("Enter")
        page.locator("article[aria-busy=false]").nth(1).wait_for(timeout=60_000)
    page.wait_for_timeout(700)
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


def main() -> None:
    """All of them."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        home = Path(folder)
        (home / "models").symlink_to(pulled(STARTER).parents[1])
        server = ServerProcess(home, home / "server.log")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        server.start()
        try:
            take(browser, server, "chat-light", ENGLISH, locale="en-US", color_scheme="light")
            take(browser, server, "chat-dark", ENGLISH, locale="en-US", color_scheme="dark")
            take(browser, server, "chat-korean", KOREAN, locale="ko-KR", color_scheme="light")
            narrow = {"width": 390, "height": 780}
            take(browser, server, "chat-narrow", KOREAN, locale="ko-KR", color_scheme="dark", viewport=narrow)
        finally:
            server.stop()
            browser.close()


if __name__ == "__main__":
    main()
