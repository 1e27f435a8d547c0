"""The same vectors in every index give the same nearest ones: exact, embedded, and the client of a Qdrant server.

There is no server here: Qdrant's client runs in its own local mode, which answers the very calls that a server would.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from madang.core.errors import StorageError
from madang.core.locking import Busy
from madang.rag.embedded import EmbeddedIndex
from madang.rag.exact import ExactIndex
from madang.rag.qdrant import QdrantIndex, connect
from madang.rag.vectors import Entry, VectorIndex, Words

N_DIMENSIONS = 16
KINDS = ["exact", "embedded", "qdrant"]


@pytest.fixture
def open_index(tmp_path: Path) -> Iterator[Callable[[str], VectorIndex]]:
    opened: list[VectorIndex] = []

    def open_one(kind: str) -> VectorIndex:
        index: VectorIndex
        if kind == "embedded":
            pytest.importorskip("qdrant_edge")
            index = EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
        elif kind == "qdrant":
            client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
            index = QdrantIndex(client, "madang_col_x", N_DIMENSIONS)
        else:
            index = ExactIndex()
        opened.append(index)
        return index

    yield open_one
    for index in opened:
        index.close()


def random_entries(n: int, seed: int = 7) -> list[Entry]:
    chance = np.random.default_rng(seed)
    entries = []
    for id in range(1, n + 1):
        vector = chance.standard_normal(N_DIMENSIONS).astype(np.float32)
        terms = np.unique(chance.integers(0, 60, 12).astype(np.uint32) * 71_582_788)
        weights = chance.random(len(terms)).astype(np.float32) + 0.5
        is_dense = id % 10 > 0
        entries.append(Entry(id, vector / np.linalg.norm(vector) if is_dense else None, terms, weights))
    return entries


def same(found: list[tuple[int, float]], wanted: list[tuple[int, float]]) -> bool:
    return [id for id, _ in found] == [id for id, _ in wanted] and np.allclose(
        [score for _, score in found], [score for _, score in wanted], atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("among", [None, list(range(5, 90)), [3], [4000]])
def test_the_same_nearest_everywhere(
    open_index: Callable[[str], VectorIndex], kind: str, among: list[int] | None
) -> None:
    entries = random_entries(200)
    index, exact = open_index(kind), ExactIndex()
    for holder in (index, exact):
        holder.put(entries[:120])
        holder.put(entries[120:])
        holder.remove([7, 8, 9, 5000])
        holder.put([entries[8]])
    chance = np.random.default_rng(1)
    for _ in range(10):
        vector = chance.standard_normal(N_DIMENSIONS).astype(np.float32)
        terms = np.unique(chance.integers(0, 70, 5).astype(np.uint32) * 71_582_788)
        words = Words(terms, chance.random(len(terms)).astype(np.float32) + 0.1)
        assert same(index.nearest(vector, 12, among), exact.nearest(vector, 12, among))
        assert same(index.matching(words, 12, among), exact.matching(words, 12, among))
    assert index.ids() == exact.ids() == {*range(1, 201)} - {7, 8}


def test_the_exact_one_is_a_plain_sum() -> None:
    entries = random_entries(40)
    index = ExactIndex()
    index.put(entries)
    vector = np.random.default_rng(2).standard_normal(N_DIMENSIONS).astype(np.float32)
    by_hand = {entry.id: float(entry.vector @ vector) for entry in entries if entry.vector is not None}
    assert [id for id, _ in index.nearest(vector, 5)] == sorted(by_hand, key=lambda id: -by_hand[id])[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_nearest_where_nothing_is(open_index: Callable[[str], VectorIndex], kind: str) -> None:
    index = open_index(kind)
    nothing = Words(np.array([], np.uint32), np.array([], np.float32))
    assert index.nearest(np.ones(N_DIMENSIONS, np.float32), 5) == []
    assert index.matching(nothing, 5) == []
    assert index.ids() == set()


def test_what_is_flushed_is_there_again(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    first = EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
    first.put(random_entries(20))
    first.flush()
    first.close()
    second = EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
    assert first.is_new and not second.is_new
    assert second.ids() == {*range(1, 21)}
    second.close()


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    first = EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
    with pytest.raises(Busy):
        EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
    first.close()
    first.close()
    EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS).close()


def test_vectors_of_another_length_make_a_new_index(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    first = EmbeddedIndex(tmp_path / "col_x", N_DIMENSIONS)
    first.put(random_entries(3))
    first.close()
    second = EmbeddedIndex(tmp_path / "col_x", 8)
    assert second.is_new
    second.close()


class Answering(BaseHTTPRequestHandler):
    """A server that refuses every request with the status of its class."""

    status = 500
    keys: ClassVar[list[str | None]] = []

    def answer(self) -> None:
        self.keys.append(self.headers.get("api-key"))
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Not in the output of tests."""


@pytest.mark.parametrize(("status", "sentence"), [(401, "refused the key"), (500, "status 500")])
def test_a_server_that_refuses_is_a_sentence_without_the_key(status: int, sentence: str) -> None:
    pytest.importorskip("qdrant_client")
    handler = type("Refusing", (Answering,), {"status": status, "keys": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = connect(f"http://127.0.0.1:{server.server_port}", "hush")
        with pytest.raises(StorageError, match=sentence) as refusal:
            QdrantIndex(client, "madang_col_x", N_DIMENSIONS)
        assert "hush" not in f"{refusal.value.message} {refusal.value.hint}"
        assert "hush" in handler.keys  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    pytest.importorskip("qdrant_client")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StorageError, match="does not answer"):
        QdrantIndex(connect(f"http://127.0.0.1:{port}", None), "madang_col_x", N_DIMENSIONS)
