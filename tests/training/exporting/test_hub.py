"""Uploads to a hub: a stand-in on this machine, spoken to by huggingface_hub itself."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from madang.core.errors import InvalidRequest, NetworkUnavailable, SourceError
from madang.training.exporting.hub import push_to_hub


class Hub:
    """Takes repositories and commits of small files; ``status`` answers every request for a new repository."""

    def __init__(self, status: int = 200) -> None:
        self.repositories: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                hub.tokens.add(self.headers.get("authorization"))
                answer = hub.answer(self.path, body)
                self._send(status if self.path.endswith("/create") else 200, answer)

            def do_GET(self) -> None:
                self._send(404 if status != 200 else 200, {"id": "me/tiny", "sha": "0" * 40, "siblings": []})

            def _send(self, status: int, document: object) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, body: bytes) -> object:
        if path.endswith("/repos/create"):
            self.repositories.append(json.loads(body))
            return {"url": f"{self.address}/me/tiny", "name": "me/tiny"}
        if "/preupload/" in path:
            paths = [own["path"] for own in json.loads(body)["files"]]
            return {"files": [{"path": own, "uploadMode": "regular", "shouldIgnore": False} for own in paths]}
        if "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return {"commitUrl": f"{self.address}/me/tiny/commit/{'1' * 40}", "commitOid": "1" * 40, "success": True}
        return {}

    @contextmanager
    def running(self) -> Iterator[Hub]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("# tiny\n")
    (tmp_path / "out" / "model" / "config.json").write_text("{}")
    (tmp_path / "out" / ".exporting-x").write_text("unfinished")
    return tmp_path / "out"


@pytest.mark.parametrize("public", [False, True])
def test_pushing(folder: Path, public: bool) -> None:
    with Hub().running() as hub:
        address = push_to_hub(folder, "me/tiny", public=public, endpoint=hub.address, token="hf_secret")
    assert address.endswith("/me/tiny")
    assert hub.files == {"README.md": b"# tiny\n", "model/config.json": b"{}"}
    (made,) = hub.repositories
    assert made.get("private", made.get("visibility") == "private") is not public
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_hub_that_refuses(folder: Path) -> None:
    with Hub(401).running() as hub, pytest.raises(SourceError, match="refused") as failure:
        push_to_hub(folder, "me/tiny", endpoint=hub.address, token="hf_secret")
    assert "may write" in str(failure.value.hint)
    assert "hf_secret" not in failure.value.message
    assert hub.files == {}


def test_no_hub(folder: Path) -> None:
    with Hub().running() as hub:
        pass
    with pytest.raises(NetworkUnavailable):
        push_to_hub(folder, "me/tiny", endpoint=hub.address, token="hf_secret")
    with pytest.raises(InvalidRequest, match="no name of a repository"):
        push_to_hub(folder, "me/ti ny/x", endpoint=hub.address, token="hf_secret")
