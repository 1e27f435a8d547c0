"""Files of a web server on this machine, which behaves well or badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from madang.core.errors import (
    ChecksumMismatch,
    InvalidReference,
    ModelNotFound,
    NetworkUnavailable,
    NotEnoughDisk,
    SourceError,
)
from madang.models import (
    HubReference,
    ModelFiles,
    Progress,
    Sources,
    Store,
    StoredReference,
    UrlReference,
    parse_reference,
    pull,
)
from madang.models.arrival import SEGMENT_BYTES
from madang.models.connections import Client, Connections
from madang.models.sources.url import UrlSource
from tests.models.standins import Interrupting, Recorder, sha256
from tests.models.web import Web

MODEL = b"GGUF" + bytes(range(256)) * 4000
LARGE = b"GGUF" + os.urandom(1 << 20) * 100  # several segments
IMPATIENT = Client(Connections(retry_s=0.01))


@pytest.fixture
def web() -> Iterator[Web]:
    with Web({"/m.gguf": MODEL, "/large.gguf": LARGE}).running() as web:
        yield web


def fetch(
    web: Web, store: Store, path: str = "/m.gguf", progress: Progress | None = None, content: bytes | None = None
) -> ModelFiles:
    checksum = "" if content is None else f"#sha256={sha256(content)}"
    reference = parse_reference(f"{web.url}{path}{checksum}")
    return pull(reference, store, progress, Sources(web=UrlSource(IMPATIENT)))


def stored(text: str) -> StoredReference:
    reference = parse_reference(text)
    assert isinstance(reference, UrlReference)
    return reference


@pytest.mark.parametrize(
    "text",
    [
        "https://host",
        "https://name:secret@host/m.gguf",
        "http://host.example/m.gguf",
        "https://host/m.gguf#sha256=12",
        "https://host/m gguf",
        "https:/host/m.gguf",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


def test_addresses() -> None:
    checksum = "AB" * 32
    reference = parse_reference(f"https://host.example:8443/a/m.gguf?x=1#sha256={checksum}")
    assert reference == UrlReference("https://host.example:8443/a/m.gguf?x=1", checksum.lower())
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("https://huggingface.co/org/repo", HubReference("org/repo")),
        ("https://huggingface.co/org/repo/blob/main/a/m.gguf", HubReference("org/repo", "a/m.gguf")),
        ("https://hf.co/org/repo/resolve/v1/m.gguf?download=true", HubReference("org/repo", "m.gguf", "v1")),
    ],
)
def test_addresses_of_the_hub_are_its_files(text: str, reference: HubReference) -> None:
    assert parse_reference(text) == reference


def test_a_file_and_what_it_must_contain(web: Web, store: Store) -> None:
    progress, notes = Recorder(), list[str]()
    files = fetch(web, store, progress=progress, content=MODEL)
    assert files.path.read_bytes() == MODEL
    assert files.name == files.source == f"{web.url}/m.gguf#sha256={sha256(MODEL)}"
    assert (progress.totals, sum(progress.steps), progress.n_finished) == ([len(MODEL)], len(MODEL), 1)
    assert store.find(stored(files.name)) == files
    assert notes == []


def test_without_a_checksum_the_one_that_it_has_is_kept_and_told(web: Web, store: Store) -> None:
    notes: list[str] = []
    reference = parse_reference(f"{web.url}/m.gguf")
    files = pull(reference, store, None, Sources(web=UrlSource(IMPATIENT)), notes.append)
    assert files.source == f"{web.url}/m.gguf#sha256={sha256(MODEL)}"
    assert len(notes) == 1 and sha256(MODEL) in notes[0]


def test_a_wrong_checksum(web: Web, store: Store) -> None:
    with pytest.raises(ChecksumMismatch):
        fetch(web, store, content=LARGE)
    assert store.list() == []
    assert MODEL not in [path.read_bytes() for path in store.root.rglob("*") if path.is_file()]


def test_what_is_no_model(web: Web, store: Store) -> None:
    web.files = {"/page.gguf": b"<html>"}
    with pytest.raises(SourceError, match="not a GGUF file"):
        fetch(web, store, "/page.gguf")
    web.content_type = "text/html; charset=utf-8"
    with pytest.raises(SourceError, match="web page"):
        fetch(web, store, "/page.gguf")
    with pytest.raises(ModelNotFound):
        fetch(web, store, "/nothing.gguf")


def test_a_large_file_comes_in_parts_side_by_side(web: Web, store: Store) -> None:
    progress = Recorder()
    assert fetch(web, store, "/large.gguf", progress, LARGE).path.read_bytes() == LARGE
    assert f"bytes={SEGMENT_BYTES}-{2 * SEGMENT_BYTES - 1}" in web.ranges()
    assert len(web.ranges()) == 4
    assert sum(progress.steps) == len(LARGE)


def test_a_server_that_knows_no_parts(web: Web, store: Store) -> None:
    web.knows_ranges = False
    web.cut_after = [70_000_000]
    progress = Recorder()
    assert fetch(web, store, "/large.gguf", progress, LARGE).path.read_bytes() == LARGE
    assert sum(progress.steps) == len(LARGE)


@pytest.mark.parametrize("path", ["/m.gguf", "/large.gguf"])
def test_connections_that_drop_on_the_way(web: Web, store: Store, path: str) -> None:
    content = web.files[path]
    web.cut_after = [min(len(content), SEGMENT_BYTES) * 9 // 10, 1000, 5000]
    progress = Recorder()
    assert fetch(web, store, path, progress, content).path.read_bytes() == content
    assert sum(progress.steps) == len(content)


def test_a_line_that_brings_nothing_any_more(web: Web, store: Store) -> None:
    web.cut_after = [1000] + [0] * 20
    with pytest.raises(NetworkUnavailable, match="ended early"):
        fetch(web, store)
    web.cut_after = []
    assert fetch(web, store).path.read_bytes() == MODEL
    assert web.ranges()[-1] == "bytes=1000-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_for_a_while(web: Web, store: Store, status: int) -> None:
    web.refusals = [(status, {"Retry-After": "0"})] * 3
    assert fetch(web, store).path.read_bytes() == MODEL


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_says_when_to_come_again(web: Web, store: Store, as_date: bool) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)
    web.busy_until_s = time.monotonic() + 0.9
    web.refusals = [(503, {"Retry-After": format_datetime(at, usegmt=True) if as_date else "1"})]
    source = UrlSource(Client(Connections(retry_s=0.0, max_attempts=2)))  # who comes too early is not let in any more
    assert pull(parse_reference(f"{web.url}/m.gguf"), store, None, Sources(web=source)).path.read_bytes() == MODEL


def test_a_server_that_is_busy_for_long(web: Web, store: Store) -> None:
    web.refusals = [(429, {"Retry-After": "86400"})]
    with pytest.raises(SourceError, match="wait 86400 s"):
        fetch(web, store)
    web.refusals = [(503, {})] * 20
    with pytest.raises(SourceError, match="503 Service Unavailable"):
        fetch(web, store)


def test_a_server_that_has_no_rest(web: Web, store: Store) -> None:
    web.cut_after, web.refusals = [1000], []
    with pytest.raises(KeyboardInterrupt):
        fetch(web, store, progress=Interrupting())
    web.refusals = [(416, {})]
    progress = Recorder()
    assert fetch(web, store, progress=progress).path.read_bytes() == MODEL
    assert sum(progress.steps) == len(MODEL)


@pytest.mark.parametrize(("stated_bytes", "known"), [(len(MODEL) + 500, True), (len(MODEL) + 500, False)])
def test_a_server_that_promises_more_than_it_sends(web: Web, store: Store, stated_bytes: int, known: bool) -> None:
    web.stated_bytes = stated_bytes
    with pytest.raises((NetworkUnavailable, SourceError)):
        fetch(web, store, content=MODEL if known else None)
    assert store.list() == []


def test_a_file_that_is_another_one_at_the_next_attempt(web: Web, store: Store) -> None:
    web.cut_after = [1000]
    with pytest.raises(KeyboardInterrupt):
        fetch(web, store, progress=Interrupting())
    web.files["/m.gguf"], web.etag = MODEL + b"new", '"2"'
    assert fetch(web, store).path.read_bytes() == MODEL + b"new"
    assert web.ranges()[-1] is None


class Changing(Recorder):
    """Puts another file there as soon as something of the first one has come."""

    def __init__(self, web: Web, content: bytes) -> None:
        super().__init__()
        self._web, self._content = web, content

    def advanced(self, n_bytes: int) -> None:
        super().advanced(n_bytes)
        self._web.files, self._web.etag = dict.fromkeys(self._web.files, self._content), '"2"'


@pytest.mark.parametrize("path", ["/m.gguf", "/large.gguf"])
def test_a_file_that_changes_on_the_way(web: Web, store: Store, path: str) -> None:
    fresh = b"GGUF" + bytes(reversed(web.files[path]))
    web.cut_after = [1000]
    progress = Changing(web, fresh)
    assert fetch(web, store, path, progress).path.read_bytes() == fresh
    assert len(progress.totals) == 1


def test_a_redirect_to_a_weaker_line_or_another_scheme(web: Web, store: Store) -> None:
    web.moved_to = "ftp://127.0.0.1"
    with pytest.raises(SourceError, match="away from http"):
        fetch(web, store)


def test_a_full_disk_is_seen_before_anything_is_written(web: Web, store: Store) -> None:
    full = Store(store.root.parent, free_bytes=lambda folder: len(MODEL) - 1)
    with pytest.raises(NotEnoughDisk) as caught:
        fetch(web, full)
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (len(MODEL), len(MODEL) - 1)
    assert web.ranges() == []
    assert "MADANG_HOME" in (caught.value.hint or "")


def test_what_is_here_already_needs_no_room(web: Web, store: Store) -> None:
    web.cut_after = [1_000_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(web, store, progress=Interrupting())
    here = max(path.stat().st_size for path in store.root.rglob("*") if path.is_file())
    tight = Store(store.root.parent, free_bytes=lambda folder: len(MODEL) - here)
    assert fetch(web, tight).path.read_bytes() == MODEL


PULL = """
import sys
from pathlib import Path
from madang.models import Sources, Store, parse_reference, pull

class Telling:
    def started(self, total_bytes): print("started", flush=True)
    def advanced(self, n_bytes): print("advanced", flush=True)
    def finished(self): print("finished", flush=True)

print(pull(parse_reference(sys.argv[1]), Store(Path(sys.argv[2])), Telling(), None, print).path, flush=True)
"""


def start_pull(web: Web, store: Store) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-u", "-c", PULL, f"{web.url}/large.gguf", str(store.root.parent)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_pull_that_was_killed_goes_on(web: Web, store: Store) -> None:
    web.cut_after = [20_000_000]
    child = start_pull(web, store)
    assert child.stdout is not None
    for line in child.stdout:
        if line == "advanced\n" and sum(len(path.read_bytes()) for path in partials(store)) > 12_000_000:
            break
    child.send_signal(signal.SIGKILL)
    child.wait(20)
    assert store.list() == []
    web.cut_after = []
    progress = Recorder()
    assert fetch(web, store, "/large.gguf", progress).path.read_bytes() == LARGE
    assert progress.steps[0] > 4_000_000  # what was there came first
    assert sum(progress.steps) == len(LARGE)


def partials(store: Store) -> list[Path]:
    return [path for path in (store.root / "partial").rglob("*") if path.is_file() and not path.suffix]


def test_two_processes_that_pull_the_same_model(web: Web, store: Store) -> None:
    web.gate = threading.Event()
    first = start_pull(web, store)
    while not web.ranges():
        time.sleep(0.05)
    second = start_pull(web, store)
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    web.gate.set()
    told = [child.communicate(timeout=60)[0].splitlines() for child in (first, second)]
    assert told[0][-1] == told[1][-1] == str(fetch(web, store, "/large.gguf").path)
    assert ["finished" in lines for lines in told] == [True, False]
    assert len(web.ranges()) == 4
