"""A token is for the hub alone: where it sends us, it does not go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from madang.models import Sources, Store, parse_reference, pull
from madang.models.sources.huggingface import HuggingFaceSource
from tests.models.standins import Hub

TOKEN = "hf_" + "t" * 34
MODEL = b"GGUF" + bytes(100)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_place_loses_the_token(store: Store, status: int) -> None:
    seen: list[dict[str, str]] = []
    hub = Hub(large={"model.gguf": MODEL})
    backend = hub.start()

    class Elsewhere(Quiet):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", str(len(MODEL)))
            self.end_headers()
            self.wfile.write(MODEL)

    with serving(Elsewhere) as elsewhere:

        class Front(Quiet):
            """The hub's listing, but its files lie elsewhere, as with a content network."""

            authorized = 0

            def do_GET(self) -> None:
                type(self).authorized += self.headers.get("Authorization") == f"Bearer {TOKEN}"
                is_file = "/resolve/" in self.path
                self.send_response(status)
                self.send_header("Location", (elsewhere if is_file else hub.url) + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serving(Front) as front:
            source = HuggingFaceSource(endpoint=front, token=TOKEN)
            files = pull(parse_reference("hf:org/repo/model.gguf"), store, sources=Sources(hub=source))
    backend.shutdown()
    backend.server_close()
    assert files.path.read_bytes() == MODEL
    assert Front.authorized > 0 and len(seen) > 0
    for headers in seen:
        assert TOKEN not in str(headers)
