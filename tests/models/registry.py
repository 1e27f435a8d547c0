"""A stand-in for the Ollama registry, on this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.models.standins import sha256

LAYER = "application/vnd.ollama.image."


@dataclass
class Registry:
    """Serves ``library/tiny:1b`` and ``someone/tiny:latest``, made of ``layers``: media type's end -> content.

    served       content under a digest that it does not have
    cut_after    bytes after which the connection breaks, one entry per break
    moved_to     where blobs are redirected to
    gate         blobs wait for it, when there is one
    """

    layers: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    manifest: object = None
    moved_to: str | None = None
    gate: threading.Event | None = None
    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def listing(self) -> object:
        if self.manifest is not None:
            return self.manifest
        layers = [
            {"mediaType": LAYER + kind, "digest": f"sha256:{sha256(content)}", "size": len(content)}
            for kind, content in self.layers.items()
        ]
        return {"schemaVersion": 2, "config": {"digest": f"sha256:{sha256(b'{}')}", "size": 2}, "layers": layers}

    def content(self, digest: str) -> bytes | None:
        if digest in self.served:
            return self.served[digest]
        return next((content for content in self.layers.values() if sha256(content) == digest), None)

    @contextmanager
    def running(self) -> Iterator[Registry]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield self
        finally:
            if self.gate is not None:
                self.gate.set()
            server.shutdown()
            server.server_close()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            registry.requests.append((self.path, self.headers.get("Range")))
            if self.path in ("/v2/library/tiny/manifests/1b", "/v2/someone/tiny/manifests/latest"):
                return self.answer(200, json.dumps(registry.listing()).encode())
            match = re.fullmatch(r"/v2/(?:library|someone)/tiny/blobs/sha256:([0-9a-f]{64})", self.path)
            content = None if match is None else registry.content(match[1])
            if content is None:
                return self.answer(404, b'{"errors": [{"code": "NOT_FOUND"}]}')
            if registry.moved_to is not None:
                return self.answer(307, b"", {"Location": registry.moved_to})
            return self.send_content(content)

        def send_content(self, content: bytes) -> None:
            if registry.gate is not None:
                registry.gate.wait(20)
            start, status = 0, 200
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if match is not None:
                start, status = int(match[1]), 206
            cut = registry.cut_after.pop(0) if registry.cut_after and len(content) > 1000 else None
            self.answer(status, content[start:], cut=cut)

        def answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])

    return Handler
