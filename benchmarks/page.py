"""How much the page loads, how soon it can be used, and how it scrolls: Chromium over a server that is started here.

python benchmarks/page.py MODEL.gguf [--rounds N] [--messages N]

scripts_gzip_bytes  of all scripts that the first load asked for
interactive_s       from the request to the end of the last long task, with the field for messages there
shown_s             the same for a conversation of so many messages, with its last one there
frame_ms            between frames, while the conversation is scrolled by 240 pixels a frame
long_tasks          of more than 50 ms, meanwhile
n_elements          of the whole page then, the highest number that was seen

Each load has a browser of its own, with nothing kept.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from playwright.sync_api import sync_playwright

from madang.server.webpage import FOLDER
from own_engine import options_of, percentiles, results, spread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVE = "import sys; from madang.cli.main import main; sys.exit(main(sys.argv[1:]))"
QUIET_MS = 500  # without a long task, which counts as the end of them
N_FRAMES = 240
WATCH = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.longTasks.push([one.startTime, one.startTime + one.duration]);
}).observe({ type: "longtask", buffered: true });
"""
INTERACTIVE = """
(text) => new Promise((resolve) => {
  const place = text === null ? "textarea" : "[role=log]";
  const isThere = () => document.querySelector(place)?.innerText.includes(text ?? "");
  let there = null;
  const look = () => {
    const now = performance.now();
    there ??= isThere() ? now : null;
    const last = Math.max(0, ...window.longTasks.map((task) => task[1]));
    if (there !== null && now - Math.max(there, last) > QUIET) resolve(Math.max(there, last) / 1000);
    else requestAnimationFrame(look);
  };
  look();
})
""".replace("QUIET", str(QUIET_MS))
SCROLL = """
(n) => new Promise((resolve) => {
  const list = document.querySelector("[role=log]");
  const from = performance.now();
  const frames = [];
  let last = from, most = 0, left = n;
  const step = (now) => {
    if (left < n) frames.push(now - last);
    last = now;
    most = Math.max(most, document.getElementsByTagName("*").length);
    if (left-- === 0) {
      const tasks = window.longTasks.filter((task) => task[0] > from).length;
      return setTimeout(() => resolve({ frames, tasks, most, end: list.scrollTop }), 100);
    }
    list.dispatchEvent(new WheelEvent("wheel", { deltaY: -240 }));
    list.scrollTop -= 240;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})
"""
BODY = """Message {n}, with **some** text and `code`.

- one point of it, and another one that is longer
- a second point

```python
def answer(question: str) -> int:
    return {n}
```
"""


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """A server with this model and nothing else; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://localhost:{port}"
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-c", SERVE, "serve", "--port", str(port)]
        environment = {**os.environ, "MADANG_HOME": home}
        with (Path(home) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home)
        try:
            wait_for(url)
            hand_over(url, model)
            yield url
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str) -> None:
    """Until the server answers."""
    for _ in range(600):
        try:
            with urlopen(f"{url}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


def hand_over(url: str, model: Path) -> None:
    """Give the server its model, since it shows no conversation without one."""
    data = model.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with urlopen(Request(f"{url}/api/blobs/{digest}", data), timeout=60):
        post(url, "/api/create", {"model": "starter", "files": {model.name: digest}, "stream": False})


def post(url: str, path: str, body: object) -> Any:
    """What it answers."""
    with urlopen(Request(url + path, json.dumps(body).encode()), timeout=60) as answer:
        return json.load(answer)


@contextmanager
def fresh(driver: Any, url: str) -> Iterator[Any]:
    """A page of a browser that knows nothing."""
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    page = browser.new_page(viewport={"width": 1280, "height": 820}, locale="en-US")
    page.add_init_script(WATCH)
    page.goto(url, wait_until="commit")
    yield page
    browser.close()


def scripts_of(page: Any) -> list[str]:
    """Names of those that were asked for."""
    urls = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    return sorted({Path(urlsplit(url).path).name for url in urls if urlsplit(url).path.endswith(".js")})


def packed_bytes(name: str) -> int:
    """Of a script, as gzip makes it when the page is built."""
    found = next(path for path in (FOLDER / "assets" / name, FOLDER / name) if path.is_file())
    packed = found.with_name(f"{name}.gz")
    return packed.stat().st_size if packed.is_file() else len(gzip.compress(found.read_bytes()))


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and keep the figures."""
    options = options_of("page", arguments, __doc__ or "", messages=2000)
    with results(options) as document, serving(options.model) as url, sync_playwright() as driver:
        first, shown, frames, tasks, most = [], [], [], [], []
        said = [
            {"role": "assistant" if n % 2 else "user", "content": BODY.format(n=n)} for n in range(options.messages)
        ]
        session = post(url, "/madang/v1/sessions/import", {"document": {"messages": said}})["id"]
        last = f"Message {options.messages - 1},"
        scripts: list[str] = []
        for _ in range(options.rounds):
            with fresh(driver, url) as page:
                first.append(page.evaluate(INTERACTIVE, None))
                scripts = scripts_of(page)
            with fresh(driver, f"{url}/chat/{session}") as page:
                print("load", first[-1], file=sys.stderr)
                shown.append(page.evaluate(INTERACTIVE, last))
                told = page.evaluate(SCROLL, N_FRAMES)
                frames += told["frames"]
                tasks.append(told["tasks"])
                most.append(told["most"])
        document |= {
            "messages": options.messages,
            "scripts": {name: packed_bytes(name) for name in scripts},
            "scripts_gzip_bytes": sum(map(packed_bytes, scripts)),
            "interactive_s": spread(first),
            "shown_s": spread(shown),
            "frame_ms": percentiles(frames),
            "long_tasks": spread(tasks),
            "n_elements": max(most),
        }
        shown_keys = ("scripts_gzip_bytes", "interactive_s", "shown_s", "frame_ms", "long_tasks", "n_elements")
        print(json.dumps({key: document[key] for key in shown_keys}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
