"""The seam to whatever holds vectors: what is nearest to a query, by meaning and by words.

An index holds no text and is never the truth: chunks lie in the database with their vectors, and whoever has lost its
index gets it made again. :mod:`~madang.rag.indexes` chooses one and keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float32]
Scored: TypeAlias = tuple[int, float]  # a chunk's id and how near it is; more is nearer


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What an index holds of a chunk.

    vector   float32 [n_dimensions], of length 1; None where the embedding model cannot read the text
    terms    uint32 [n], and what each counts: ``weights`` float32 [n]
    """

    id: int
    vector: Vector | None
    terms: npt.NDArray[np.uint32]
    weights: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A query by words: ``terms`` uint32 [n], and what each counts: ``weights`` float32 [n]."""

    terms: npt.NDArray[np.uint32]
    weights: Vector


class VectorIndex(Protocol):
    """Chunks of one collection. Any thread may search while another one puts; only one puts or removes at a time."""

    def ids(self) -> set[int]:
        """All that it holds."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Hold these, in place of those of the same ids."""

    def remove(self, ids: Iterable[int]) -> None:
        """Hold these no more; those that it does not hold do not matter."""

    def nearest(self, vector: Vector, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """The ``limit`` nearest by the cosine of their vectors, best first; of ``among``, where that is given."""

    def matching(self, words: Words, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """The best by the sum of what shared terms count in both; those without any do not come."""

    def flush(self) -> None:
        """What was put and removed outlives the process from here on, where the index does at all."""

    def close(self) -> None:
        """Give back what it holds; a second call does nothing."""
