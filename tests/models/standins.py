"""What stands in for the outside world in these tests: a wheel maker, a hub over HTTP, a recording progress."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from madang.models import SilentProgress


class Recorder(SilentProgress):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.steps: list[int] = []
        self.n_finished = 0

    def started(self, total_bytes: int | None) -> None:
        self.totals.append(total_bytes)

    def advanced(self, n_bytes: int) -> None:
        self.steps.append(n_bytes)

    def finished(self) -> None:
        self.n_finished += 1


class Interrupting(Recorder):
    """Ctrl-C in the middle."""

    def advanced(self, n_bytes: int) -> None:
        super().advanced(n_bytes)
        if sum(self.steps) > 0:
            raise KeyboardInterrupt


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path, package: str, version: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, holding ``members``."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{package}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    metadata = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | metadata).items():
            archive.writestr(name, content)
    return path


@dataclass
class Hub:
    """A hub with one repository, ``org/repo``, on this machine.

    large         served with a sha256, as Git LFS files are
    served        content that differs from what the listing promises
    cut_after     bytes after which the connection breaks, one entry per break
    busy          how many questions are refused for now
    meeting       large files are only sent to as many at a time as it waits for
    """

    large: dict[str, bytes] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    gated: bool = False
    busy: int = 0
    meeting: threading.Barrier | None = None
    ignores_ranges: bool = False
    commit: str = "c" * 40
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def listing(self) -> dict[str, object]:
        siblings: list[dict[str, object]] = []
        for name, content in self.large.items():
            lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append({"rfilename": name, "size": len(content), "blobId": "0" * 40, "lfs": lfs})
        for name, content in self.small.items():
            git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            siblings.append({"rfilename": name, "size": len(content), "blobId": git_id})
        return {"id": "org/repo", "sha": self.commit, "siblings": siblings, "tags": [], "private": False}

    def content(self, name: str) -> bytes | None:
        return {**self.large, **self.small, **self.served}.get(name)

    def resolved(self, path: str) -> bytes | None:
        """What lies at the address of a file."""
        name = path.removeprefix(f"/org/repo/resolve/{self.commit}/")
        return None if name == path else self.content(name)

    def told(self, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        """The answer to a question about a repository; None for other questions."""
        if re.fullmatch(r"/api/models/org/repo(/revision/(main|c{40}))?", path):
            return 200, json.dumps(self.listing()).encode(), {"Content-Type": "application/json"}
        if path.startswith("/api/models/org/repo/revision/"):
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        if path.startswith("/api/models/odd/"):
            return 200, b"<html>please log in to the wireless network</html>", {}
        return None

    def next_cut(self) -> int | None:
        """After how many bytes the next answer ends."""
        return self.cut_after.pop(0) if self.cut_after else None

    def refusal(self) -> int | None:
        """The status to refuse the next question with."""
        if self.busy == 0:
            return None
        self.busy -= 1
        return 503 if self.busy % 2 else 429

    def ranges(self) -> list[str | None]:
        """The Range headers of all downloads, in order."""
        return [range_ for _, path, range_ in self.requests if "/resolve/" in path]

    def start(self) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


@dataclass
class DatasetHub(Hub):
    """A hub with one data set, its files the same at every one of its ``revisions``; ``org/gated`` is gated."""

    repository: str = "org/rows"
    revisions: tuple[str, ...] = ("main", "refs/convert/parquet")

    def resolved(self, path: str) -> bytes | None:
        revision, name = self._within(path, f"/datasets/{self.repository}/resolve/")
        return self.content(name) if revision else None

    def told(self, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        if "/datasets/org/gated/" in path:
            return 403, b"{}", {"X-Error-Code": "GatedRepo"}
        if path.startswith(f"/datasets/{self.repository}/resolve/"):
            revision, name = self._within(path, f"/datasets/{self.repository}/resolve/")
            if revision and self.content(name) is not None:
                return None
            return 404, b"{}", {"X-Error-Code": "EntryNotFound" if revision else "RevisionNotFound"}
        if not path.startswith(f"/api/datasets/{self.repository}"):
            return None
        found: object = {"id": self.repository, "sha": self.commit, "siblings": [{"rfilename": n} for n in self.small]}
        revision, name = self._within(path, f"/api/datasets/{self.repository}/(?:tree|revision)/")
        if path != f"/api/datasets/{self.repository}" and not revision:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        if "/tree/" in path:
            found = [
                {"type": "file", "path": own, "size": len(content), "oid": sha256(content)[:40]}
                for own, content in self.small.items()
                if own.startswith(name)
            ]
        return 200, json.dumps(found).encode(), {"Content-Type": "application/json"}

    def _within(self, path: str, begin: str) -> tuple[str, str]:
        """The revision and the file that an address is about; no revision where there is none of that name."""
        revisions = "|".join(map(re.escape, (*self.revisions, self.commit)))
        match = re.fullmatch(f"{begin}({revisions})(?:/(.*))?", unquote(path))
        return ("", "") if match is None else (match[1], match[2] or "")


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            hub.requests.append((self.command, self.path, self.headers.get("Range")))
            path = self.path.split("?")[0]
            if (status := hub.refusal()) is not None:
                return self.answer(status, b"{}", {"Retry-After": "0"})
            if (told := hub.told(path)) is not None:
                return self.answer(*told)
            content = hub.resolved(path)
            if content is None:
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if hub.gated:
                return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return self.send_content(content)

        do_HEAD = do_GET

        def send_content(self, content: bytes) -> None:
            if hub.meeting is not None and len(content) > 1000:
                hub.meeting.wait(20)
            start, status = 0, 200
            headers = {"ETag": f'"{sha256(content)}"', "X-Repo-Commit": hub.commit}
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if match is not None and not hub.ignores_ranges:
                start, status = int(match[1]), 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(status, content[start:], headers, hub.next_cut())

        def answer(self, *args: Any, **kwargs: Any) -> None:
            _answer(self, *args, **kwargs)

    return Handler


def _answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
) -> None:
    handler.send_response(status)
    for key, value in {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}.items():
        handler.send_header(key, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body if cut is None else body[:cut])
