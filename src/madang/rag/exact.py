"""Every vector against the query, in memory: no package, no files, no lock, and the measure for the other indexes.

Made from the database when it is first asked, so it is what a second process uses while the first one holds the
folder of the embedded index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from madang.rag.vectors import Entry, Scored, Vector, Words


@dataclass(frozen=True, slots=True, eq=False)
class _Arrays:
    """N chunks with D dimensions; V different terms stand in P places.

    ids        int64 [N]
    vectors    float32 [N, D]; zeros where a chunk has none
    is_dense   bool [N]: whether it has one
    terms      uint32 [V], rising
    starts     int64 [V + 1]: where a term's places begin in ``rows`` and ``weights``
    rows       int32 [P]: of which chunk
    weights    float32 [P]
    """

    ids: npt.NDArray[np.int64]
    vectors: Vector
    is_dense: npt.NDArray[np.bool_]
    terms: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    weights: Vector

    @classmethod
    def made(cls, entries: Sequence[Entry]) -> _Arrays:
        lengths = [len(entry.terms) for entry in entries]
        nothing = np.zeros(next((len(entry.vector) for entry in entries if entry.vector is not None), 0), np.float32)
        all_terms = np.concatenate([entry.terms for entry in entries])
        order = np.argsort(all_terms, kind="stable")
        all_terms = all_terms[order]
        terms, starts = np.unique(all_terms, return_index=True)
        return cls(
            ids=np.array([entry.id for entry in entries], np.int64),
            vectors=np.stack([nothing if entry.vector is None else entry.vector for entry in entries]),
            is_dense=np.array([entry.vector is not None for entry in entries], np.bool_),
            terms=terms,
            starts=np.append(starts, len(all_terms)),
            rows=np.repeat(np.arange(len(entries), dtype=np.int32), lengths)[order],
            weights=np.concatenate([entry.weights for entry in entries])[order],
        )


class ExactIndex:
    """A :class:`~madang.rag.vectors.VectorIndex` that reads everything it holds for each query."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._arrays: _Arrays | None = None
        self._lock = Lock()

    def ids(self) -> set[int]:
        """See the protocol, as for all of these."""
        return set(self._entries)

    def put(self, entries: Sequence[Entry]) -> None:
        """In memory only."""
        with self._lock:
            self._entries.update((entry.id, entry) for entry in entries)
            self._arrays = None

    def remove(self, ids: Iterable[int]) -> None:
        """From memory."""
        with self._lock:
            for id in ids:
                self._entries.pop(id, None)
            self._arrays = None

    def nearest(self, vector: Vector, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """One product of a matrix and the query."""
        arrays = self._ready()
        if arrays is None or not arrays.is_dense.any():
            return []
        return _best(arrays, arrays.vectors @ vector, arrays.is_dense, limit, among)

    def matching(self, words: Words, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """The places of the query's terms, added up."""
        arrays = self._ready()
        if arrays is None:
            return []
        scores = np.zeros(len(arrays.ids), np.float32)
        found = np.searchsorted(arrays.terms, words.terms)
        for term, weight, i in zip(words.terms, words.weights, found, strict=True):
            if i < len(arrays.terms) and arrays.terms[i] == term:
                places = slice(arrays.starts[i], arrays.starts[i + 1])
                scores[arrays.rows[places]] += weight * arrays.weights[places]
        return _best(arrays, scores, scores > 0, limit, among)

    def flush(self) -> None:
        """Nothing outlives the process."""

    def close(self) -> None:
        """Free it."""
        with self._lock:
            self._entries.clear()
            self._arrays = None

    def _ready(self) -> _Arrays | None:
        with self._lock:
            if self._arrays is None and self._entries:
                self._arrays = _Arrays.made([*self._entries.values()])
            return self._arrays


def _best(
    arrays: _Arrays, scores: Vector, is_wanted: npt.NDArray[np.bool_], limit: int, among: Sequence[int] | None
) -> list[Scored]:
    """The highest of the wanted scores; of equal ones, the lower id first."""
    if among is not None:
        is_wanted = is_wanted & np.isin(arrays.ids, np.asarray(among, np.int64))
    rows = np.flatnonzero(is_wanted)
    if len(rows) > limit:
        rows = rows[np.argpartition(-scores[rows], limit - 1)[:limit]]
    rows = rows[np.lexsort((arrays.ids[rows], -scores[rows]))]
    return [(int(arrays.ids[row]), float(scores[row])) for row in rows]
