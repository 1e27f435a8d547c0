"""A stand-in for a web server that serves files, well or badly, on this machine."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """Serves ``files``: path -> content. Questions for the first byte alone are always answered well.

    etag             of every file
    cut_after        bytes after which the connection breaks, one entry per break
    refusals         status and headers to answer with, one entry per request
    busy_until_s     of the monotonic clock; whoever comes earlier is refused
    stated_bytes     what it says that a file has, when that is not true
    knows_ranges     whether it sends parts
    moved_to         where everything is redirected to
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"1"'
    cut_after: list[int] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    busy_until_s: float = 0.0
    stated_bytes: int | None = None
    knows_ranges: bool = True
    moved_to: str | None = None
    content_type: str = "application/octet-stream"
    gate: threading.Event | None = None
    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
    n_open: int = 0
    most_open: int = 0

    def ranges(self) -> list[str | None]:
        """The Range headers of all transfers, in order."""
        ranges = [headers.get("Range") for headers in self.requests]
        return [range_ for range_ in ranges if range_ != "bytes=0-0"]

    @contextmanager
    def running(self) -> Iterator[Web]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield self
        finally:
            if self.gate is not None:
                self.gate.set()
            server.shutdown()
            server.server_close()


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            web.requests.append(dict(self.headers))
            if web.moved_to is not None:
                return self.answer(302, b"", {"Location": web.moved_to + self.path})
            content = web.files.get(self.path)
            if content is None:
                return self.answer(404, b"")
            probe = self.headers.get("Range") == "bytes=0-0"
            if not probe and web.refusals:
                status, headers = web.refusals.pop(0)
                return self.answer(status, b"", headers)
            if not probe and time.monotonic() < web.busy_until_s:
                return self.answer(503, b"")
            with lock:
                web.n_open += 1
                web.most_open = max(web.most_open, web.n_open)
            try:
                self.send_content(content, probe)
            finally:
                with lock:
                    web.n_open -= 1

        def send_content(self, content: bytes, probe: bool) -> None:
            if web.gate is not None and not probe:
                web.gate.wait(20)
            headers = {"Content-Type": web.content_type, **({} if web.etag is None else {"ETag": web.etag})}
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            changed = self.headers.get("If-Range") not in (None, web.etag)
            start, end, status = 0, len(content), 200
            if match is not None and web.knows_ranges and not changed:
                start, status = int(match[1]), 206
                end = min(int(match[2]) + 1, len(content)) if match[2] else len(content)
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{web.stated_bytes or len(content)}"
            body = content[start:end]
            length = web.stated_bytes if web.stated_bytes is not None and status == 200 else len(body)
            cut = web.cut_after.pop(0) if web.cut_after and not probe else None
            self.answer(status, body if cut is None else body[:cut], headers, length)

        def answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
        ) -> None:
            self.send_response(status)
            stated = {"Content-Length": str(len(body) if length is None else length), "Connection": "close"}
            for key, value in {**stated, **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
