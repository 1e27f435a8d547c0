"""Qdrant's engine inside this process (package ``qdrant-edge-py``), in a folder that one process holds at a time.

Its graph index is not built: reading all vectors takes 5 ms at 100,000 chunks of 384 dimensions and misses none
(docs/decisions/0019-vector-store.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from madang.core.locking import file_lock
from madang.rag.vectors import Entry, Scored, Vector, Words

_DENSE, _SPARSE = "dense", "sparse"
_PAGE = 10_000


def is_installed() -> bool:
    """Whether its package is there."""
    return find_spec("qdrant_edge") is not None


def held(folder: Path) -> AbstractContextManager[None]:
    """Nobody else opens the folder meanwhile. Raises Busy while somebody has it open."""
    return file_lock(folder.with_suffix(".lock"), wait=False)


class EmbeddedIndex:
    """A :class:`~madang.rag.vectors.VectorIndex` in a folder.

    is_new    it was empty when it was opened: there was no folder, or one that could not be read any more
    """

    def __init__(self, folder: Path, n_dimensions: int) -> None:
        """Raises Busy while another process holds the folder."""
        import qdrant_edge

        self._edge: Any = qdrant_edge
        self._closing = ExitStack()
        self._lock = Lock()
        self._closing.enter_context(held(folder))
        try:
            self._shard, self.is_new = self._open(folder, n_dimensions)
        except BaseException:
            self._closing.close()
            raise

    def ids(self) -> set[int]:
        """See the protocol, as for all of these."""
        found: set[int] = set()
        offset: Any = None
        while True:
            records, offset = self._shard.scroll(
                self._edge.ScrollRequest(limit=_PAGE, offset=offset, with_payload=False, with_vector=False)
            )
            found.update(int(record.id) for record in records)
            if offset is None:
                return found

    def put(self, entries: Sequence[Entry]) -> None:
        """Written to its log first, so a crash leaves whole entries or none."""
        self._update(self._edge.UpdateOperation.upsert_points([self._point(entry) for entry in entries]))

    def remove(self, ids: Iterable[int]) -> None:
        """The same."""
        self._update(self._edge.UpdateOperation.delete_points([*ids]))

    def nearest(self, vector: Vector, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """Exact: all vectors are read."""
        return self._query(self._edge.Query.Nearest(vector.tolist(), using=_DENSE), limit, among)

    def matching(self, words: Words, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """From an inverted index."""
        if not len(words.terms):
            return []
        sparse = self._edge.SparseVector(words.terms.tolist(), words.weights.tolist())
        return self._query(self._edge.Query.Nearest(sparse, using=_SPARSE), limit, among)

    def flush(self) -> None:
        """To the disk."""
        self._shard.flush()

    def close(self) -> None:
        """Let other processes have the folder."""
        with self._lock:
            shard, self._shard = self._shard, None
        if shard is not None:
            shard.close()
            self._closing.close()

    def _open(self, folder: Path, n_dimensions: int) -> tuple[Any, bool]:
        edge = self._edge
        config = edge.EdgeConfig(
            vectors={_DENSE: edge.EdgeVectorParams(n_dimensions, edge.Distance.Dot)},
            sparse_vectors={_SPARSE: edge.EdgeSparseVectorParams()},
        )
        if folder.exists():
            with suppress(Exception):  # whatever is wrong with it, all of it can be made again
                return edge.EdgeShard.load(str(folder), config), False
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return edge.EdgeShard.create(str(folder), config), True

    def _point(self, entry: Entry) -> Any:
        vectors: dict[str, Any] = {_SPARSE: self._edge.SparseVector(entry.terms.tolist(), entry.weights.tolist())}
        if entry.vector is not None:
            vectors[_DENSE] = entry.vector.tolist()
        return self._edge.Point(entry.id, vectors)

    def _update(self, operation: Any) -> None:
        with self._lock:
            self._shard.update(operation)

    def _query(self, query: Any, limit: int, among: Sequence[int] | None) -> list[Scored]:
        edge = self._edge
        only = None if among is None else edge.Filter(must=[edge.HasIdCondition({*among})])
        shard = self._shard
        if shard is None:  # the collection was removed meanwhile
            return []
        found = shard.query(edge.QueryRequest(limit=limit, query=query, filter=only))
        return [(int(point.id), float(point.score)) for point in found]
