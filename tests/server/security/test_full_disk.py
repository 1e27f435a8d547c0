"""A full disk: what is there is served on, what does not fit is refused in one sentence, and nothing half is left.

The server is a real process whose home is a file system of its own, of 3 MiB, which needs Linux and user namespaces.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from madang.core.errors import NotEnoughDisk
from madang.core.writing import write_atomically
from madang.server.keys import KeyFile
from tests.models.registry import Registry

DISK_BYTES = 3 << 20
LARGE = b"GGUF" + bytes(4 << 20)
MOUNT = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "$MADANG_HOME" && exec "$@"'


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-Urm", "sh", "-c", MOUNT, "sh", "true"]
    environment = {**os.environ, "MADANG_HOME": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@dataclass
class Served:
    """A server process; ``home`` leads to its folder from outside."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body)
        connection.request(method, path, content, headers or {}, encode_chunked=hasattr(body, "__next__"))
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, answer.read()

    def answers(self) -> bool:
        """Whether a chat still works."""
        body = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}
        status, text = self.ask("POST", "/v1/chat/completions", body)
        return status == 200 and b'"content":"hello"' in text

    def fill(self) -> None:
        """Until nothing fits any more."""
        with contextlib.suppress(OSError), (self.home / "filler").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass

    def files(self) -> set[str]:
        """All but locks and the database, which history is kept in as far as there is room."""
        found = (path.relative_to(self.home) for path in self.home.rglob("*") if path.is_file())
        return {str(path) for path in found if path.suffix != ".lock" and path.stem != "madang"}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry({"model": LARGE}).running() as registry:
        yield registry


@pytest.fixture
def small(tmp_path: Path, registry: Registry) -> Iterator[Served]:
    home = tmp_path / "home"
    home.mkdir()
    if not can_mount(home):
        pytest.skip("no file system of our own can be mounted here (unshare -Urm)")
    command = ["unshare", "-Urm", "sh", "-c", MOUNT, "sh"]
    command += [sys.executable, "-m", "madang.cli", "serve", "--port", "0", "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(home), "MADANG_OLLAMA_REGISTRY": registry.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().decode().strip()).port
        assert port is not None, process.communicate(timeout=20)[1]
        yield Served(process, port, Path(f"/proc/{process.pid}/root/{home}"))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("promises_its_length", [True, False])
def test_an_upload_that_does_not_fit(small: Served, promises_its_length: bool) -> None:
    body: Any = LARGE if promises_its_length else iter([LARGE[i : i + 65536] for i in range(0, len(LARGE), 65536)])
    try:
        status, text = small.ask("POST", f"/api/blobs/{digest_of(LARGE)}", body)
        assert status == 507 and b"disk is full" in text
        assert str(small.home).encode() not in text
    except OSError:  # hung up on while it sent
        assert not promises_its_length
    assert small.files() == set()
    assert small.answers()


def test_a_pull_that_does_not_fit(small: Served) -> None:
    status, text = small.ask("POST", "/madang/v1/pulls", {"model": "tiny:1b"})
    assert status == 202
    id = json.loads(text)["id"]
    _, events = small.ask("GET", f"/madang/v1/pulls/{id}/events")
    last = json.loads(events.splitlines()[-1])
    assert (last["state"], last["error"]["code"]) == ("failed", "not_enough_disk")
    assert small.ask("GET", "/api/tags") == (200, b'{"models":[]}')
    assert small.answers()


def test_a_disk_that_is_full_to_the_last_byte(small: Served) -> None:
    """Uploads, keys, models: nothing is written, everything that was there is served."""
    content = b"GGUF" + bytes(100)
    assert small.ask("POST", f"/api/blobs/{digest_of(content)}", content)[0] == 201
    keys = KeyFile(small.home)
    secret = keys.add("one", may_manage=True)
    before = keys.path.read_bytes()
    small.fill()
    headers = {"Authorization": f"Bearer {secret}"}
    environment = {**os.environ, "MADANG_HOME": str(small.home)}
    command = [sys.executable, "-m", "madang.cli", "keys", "add", "two"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "disk space" in done.stderr and "md-" not in done.stdout
    assert keys.path.read_bytes() == before
    other = content + b"x"
    assert small.ask("POST", f"/api/blobs/{digest_of(other)}", other, headers)[0] == 507
    for path in ("/api/tags", "/v1/models", "/madang/v1/models", "/madang/v1/metrics", "/metrics", "/api/ps"):
        assert small.ask("GET", path, headers=headers)[0] == 200, path
    body = {"model": "x", "messages": [{"role": "user", "content": "hello"}]}
    assert small.ask("POST", "/v1/chat/completions", body, headers)[0] == 200
    assert small.files() == {"filler", "keys.json", f"models/partial/sha256-{digest_of(content)[7:]}/content"}
    (small.home / "filler").unlink()  # and with room again, all works again
    assert small.ask("POST", f"/api/blobs/{digest_of(other)}", other, headers)[0] == 201


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "madang.cli", "serve", "--port", "0", "--engine", "echo"]
    environment = {**os.environ, "MADANG_HOME": str(tmp_path)}
    with (
        full.open("wb") as nowhere,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=nowhere) as process,
    ):
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().decode().strip()).port
        assert port is not None
        server = Served(process, port, tmp_path)
        assert all(server.answers() for _ in range(3))
        assert server.ask("GET", "/nowhere")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


# -- without a file system of one's own: a limit on the length of files does the same to a process


@pytest.fixture
def short_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_there_stays_when_its_successor_does_not_fit(tmp_path: Path, short_files: None) -> None:
    path = tmp_path / "file"
    write_atomically(path, "before")
    with pytest.raises(NotEnoughDisk):
        write_atomically(path, "x" * 5000)
    assert path.read_text(encoding="utf-8") == "before"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_file_of_keys_that_does_not_fit_keeps_the_old_keys(tmp_path: Path, short_files: None) -> None:
    keys, names = KeyFile(tmp_path), list[str]()
    with pytest.raises(NotEnoughDisk):
        for number in range(100):
            keys.add(f"key-{number}")
            names.append(f"key-{number}")
    assert 0 < len(names) < 100
    assert [key.name for key in KeyFile(tmp_path).list()] == names
