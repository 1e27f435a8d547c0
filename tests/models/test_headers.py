"""Headers of models on servers of this machine: only the first bytes are asked for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import MalformedFile, ModelNotFound, SourceError
from madang.formats.gguf import read_gguf
from madang.formats.safetensors import read_safetensors
from madang.models.headers import header_files
from madang.models.references import HubReference, OllamaReference, UrlReference

WEIGHTS_BYTES = 3_000_000
COMMIT = "c" * 40


def gguf_bytes(path: Path, n_words: int) -> bytes:
    """A file with a vocabulary that makes its header longer than what is fetched first."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"word number {number}" for number in range(n_words)])
    writer.add_tensor("token_embd.weight", np.zeros((WEIGHTS_BYTES // 400, 100), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def safetensors_bytes() -> bytes:
    header = {"w": {"dtype": "F32", "shape": [WEIGHTS_BYTES // 4], "data_offsets": [0, WEIGHTS_BYTES]}}
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + bytes(WEIGHTS_BYTES)


class Server:
    """Serves ``files`` by path, in parts where it is asked to; counts the bytes it sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.n_sent = 0
        self.sends_parts = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            content = server.files.get(self.path.split("?")[0])
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            self.send_response(404 if content is None else 206 if asked and server.sends_parts else 200)
            if content is not None and asked and server.sends_parts:
                begin, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
                content = content[begin:end]
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            try:
                self.wfile.write(content or b"")
            except OSError:  # whoever asked has heard enough
                return
            server.n_sent += len(content or b"")

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("n_words", [10, 20_000])
def test_a_file_on_a_web_server(server: Server, tmp_path: Path, n_words: int) -> None:
    content = gguf_bytes(tmp_path / "whole.gguf", n_words)
    server.files["/m.gguf"] = content
    with header_files(UrlReference(f"{server.url}/m.gguf")) as files:
        found, whole = read_gguf(files.path), read_gguf(tmp_path / "whole.gguf")
        assert files.size_bytes == len(content)
        assert found.metadata["tokenizer.ggml.tokens"] == whole.metadata["tokenizer.ggml.tokens"]
        assert [(t.name, t.shape, t.offset_bytes) for t in found.tensors.values()] == [
            (t.name, t.shape, t.offset_bytes) for t in whole.tensors.values()
        ]
        assert server.n_sent < len(content) - WEIGHTS_BYTES // 4
    assert not files.path.exists()


def test_a_repository_of_safetensors(server: Server) -> None:
    small = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}"}
    contents = {**small, "model.safetensors": safetensors_bytes()}
    siblings = [{"rfilename": name, "size": len(content)} for name, content in contents.items()]
    listing = {"id": "org/repo", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
    server.files["/api/models/org/repo"] = json.dumps(listing).encode()
    for name, content in contents.items():
        server.files[f"/org/repo/resolve/{COMMIT}/{name}"] = content
    with header_files(HubReference("org/repo"), endpoint=server.url) as files:
        assert files.format == "huggingface"
        assert files.size_bytes == sum(map(len, contents.values()))
        assert read_safetensors(files.path)["w"].shape == (WEIGHTS_BYTES // 4,)
        assert (files.path / "config.json").read_bytes() == small["config.json"]
    assert server.n_sent < WEIGHTS_BYTES // 2


def test_the_tokenizer_of_a_repository_alone(server: Server) -> None:
    contents = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b'{"model": "' + b"a" * (5 << 20) + b'"}',
        "vocab.json": b" " * (5 << 20),  # longer than anything but a tokenizer.json may be
        "model.safetensors": safetensors_bytes(),
    }
    siblings = [{"rfilename": name, "size": len(content)} for name, content in contents.items()]
    listing = {"id": "org/repo", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
    server.files["/api/models/org/repo"] = json.dumps(listing).encode()
    for name in ("config.json", "tokenizer.json"):
        server.files[f"/org/repo/resolve/{COMMIT}/{name}"] = contents[name]
    with header_files(HubReference("org/repo"), endpoint=server.url, tokenizer=True) as files:
        assert {path.name for path in files.path.iterdir()} == {"config.json", "tokenizer.json"}
        assert (files.path / "tokenizer.json").read_bytes() == contents["tokenizer.json"]


def test_a_model_of_an_ollama_registry(server: Server, tmp_path: Path) -> None:
    content = gguf_bytes(tmp_path / "whole.gguf", 10)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{'a' * 64}", "size": len(content)}
    server.files["/v2/library/tiny/manifests/1b"] = json.dumps({"layers": [layer]}).encode()
    server.files[f"/v2/library/tiny/blobs/sha256:{'a' * 64}"] = content
    with header_files(OllamaReference("tiny", "1b"), registry=server.url) as files:
        assert files.name == "ollama:tiny:1b"
        assert read_gguf(files.path).architecture == "llama"


def test_a_server_without_parts_serves_short_headers_only(server: Server, tmp_path: Path) -> None:
    server.sends_parts = False
    server.files["/short.gguf"] = gguf_bytes(tmp_path / "short.gguf", 10)
    server.files["/page.gguf"] = b"<html>" * 20_000
    with (
        pytest.raises(SourceError, match="does not send parts"),
        header_files(UrlReference(f"{server.url}/short.gguf")),
    ):
        pass  # what is read at once is more than came
    with pytest.raises(ModelNotFound), header_files(UrlReference(f"{server.url}/nothing.gguf")):
        pass
    server.sends_parts = True
    with pytest.raises(MalformedFile, match="web page"), header_files(UrlReference(f"{server.url}/page.gguf")):
        pass
