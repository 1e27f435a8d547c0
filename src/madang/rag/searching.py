"""What is found for a question: by meaning and by words, one order of both, and whether any of it is about it at all.

Each way gives its own list; reciprocal rank fusion (Cormack et al. 2009) makes one of them: a chunk scores the sum of
1 / (60 + rank). It is computed here and not by an index, so that every index gives the same order and both scores stay
visible. A model that cannot read the question takes no part.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.rag import stored
from madang.rag.embedding import QUESTION_SHARE, ModelFacts, OpenEmbedder, embed_query
from madang.rag.indexes import Indexes
from madang.rag.lexical import Terms, count_terms, find_analyzer, idf
from madang.rag.relevance import LEAST_CHUNKS, Evidence, is_covered, is_near, telling_part
from madang.rag.stored import Collection, StoredChunk
from madang.rag.vectors import Scored, Vector, Words
from madang.storage import Database

Mode: TypeAlias = Literal["hybrid", "dense", "lexical"]

DEFAULT_LIMIT = 8
MOST_HITS = 100
MOST_QUERY_CHARACTERS = 10_000
RANK_CONSTANT = 60
DEPTH = 50  # chunks of each list that are fused, at least


@dataclass(frozen=True, slots=True)
class Only:
    """What a search is limited to: a document's id, a speaker's name. None is no limit."""

    document: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that was found.

    score          what hits are ordered by; of one search only
    dense_score    cosine of the vectors of question and chunk; None where it was not among the nearest
    lexical_score  BM25; None where no word is shared, or others share more
    """

    rank: int
    chunk: StoredChunk
    score: float
    dense_score: float | None
    lexical_score: float | None


@dataclass(frozen=True, slots=True)
class SearchTimings:
    """Seconds to turn the question into a vector, opening the model included, and for all the rest."""

    embed_s: float
    search_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, best first. ``is_relevant`` is False where it is only the nearest of what does not fit."""

    hits: Sequence[Hit]
    is_relevant: bool
    evidence: Evidence
    timings: SearchTimings


class Searcher:
    """Searches collections of one database."""

    def __init__(self, database: Database, indexes: Indexes, open_embedder: OpenEmbedder) -> None:
        self._database, self._indexes, self._open_embedder = database, indexes, open_embedder

    def search(self, collections: Sequence[Collection], query: str, *, limit: int, mode: Mode, only: Only) -> Found:
        """See :meth:`~madang.rag.collections.Collections.search`."""
        _check(query, limit, mode)
        started_s = time.perf_counter()
        vectors = {} if mode == "lexical" else _query_vectors(self._open_embedder, collections, query, mode)
        embedded_s = time.perf_counter()
        words = {collection.name: _QueryWords.of(self._database, collection, query) for collection in collections}
        dense: dict[int, float] = {}
        lexical: dict[int, float] = {}
        is_relevant = False
        depth = max(DEPTH, 2 * limit)
        for collection in collections:
            index = self._indexes.follow(collection)
            if index is None:
                continue
            among = _among(self._database, collection, only)
            if (vector := vectors.get(collection.embedding_model)) is not None:
                nearest = index.nearest(vector, depth, among)
                is_relevant |= bool(nearest) and is_near(nearest[0][1], collection.embedding_model)
                dense |= nearest
            if mode != "dense":
                lexical |= index.matching(words[collection.name].words, depth, among)
        fused = fuse([_ranked(dense, depth), _ranked(lexical, depth)])[:limit]
        chunks = _read(self._database, [id for id, _ in fused])
        hits = [
            Hit(rank=rank, chunk=chunks[id][0], score=score, dense_score=dense.get(id), lexical_score=lexical.get(id))
            for rank, (id, score) in enumerate(((id, score) for id, score in fused if id in chunks), 1)
        ]
        coverages = {id: words[chunk.collection].coverage(terms) for id, (chunk, terms) in chunks.items()}
        evidence = Evidence(
            cosine=max(dense.values(), default=0.0) if vectors else None,
            coverage=max(coverages.values(), default=0.0),
        )
        is_relevant |= any(
            is_covered(coverage, words[chunks[id][0].collection].analyzer, query) for id, coverage in coverages.items()
        )
        timings = SearchTimings(embedded_s - started_s, time.perf_counter() - embedded_s)
        return Found(hits=hits, is_relevant=bool(hits) and is_relevant, evidence=evidence, timings=timings)


def fuse(rankings: Iterable[Sequence[Scored]]) -> list[Scored]:
    """One ranking of several, best first; of equal scores, the lower id first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (id, _) in enumerate(ranking, 1):
            scores[id] = scores.get(id, 0.0) + 1 / (RANK_CONSTANT + rank)
    return _ranked(scores, len(scores))


def _ranked(scores: Mapping[int, float], limit: int) -> list[Scored]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _check(query: str, limit: int, mode: str) -> None:
    if not query.strip():
        raise InvalidRequest("There is nothing to search for.", param="query")
    if len(query) > MOST_QUERY_CHARACTERS:
        raise InvalidRequest(f"A query has at most {MOST_QUERY_CHARACTERS} characters.", param="query")
    if not 1 <= limit <= MOST_HITS:
        raise InvalidRequest(f"A search finds 1 to {MOST_HITS} chunks, not {limit}.", param="limit")
    if mode not in get_args(Mode):
        raise InvalidRequest(f"mode is one of {', '.join(get_args(Mode))}, not '{mode}'.", param="mode")


def _query_vectors(
    open_embedder: OpenEmbedder, collections: Sequence[Collection], query: str, mode: Mode
) -> dict[str, Vector]:
    """By embedding model; those that cannot read the question are left out."""
    vectors: dict[str, Vector] = {}
    for model in dict.fromkeys(collection.embedding_model for collection in collections if collection.n_chunks):
        facts = ModelFacts.of(model)
        if facts.can_read(query, QUESTION_SHARE):
            with open_embedder(model) as embedder:
                vectors[model] = embed_query(embedder, facts, query)
        elif mode == "dense":
            raise InvalidRequest(
                f"{model} does not know the language of the question.",
                param="mode",
                hint="Search by words, or make the collection with a model that knows it, such as bge-m3.",
            )
    return vectors


@dataclass(frozen=True, slots=True)
class _QueryWords:
    """The words of a question in one collection: those to search by, and those that tell what it is about."""

    analyzer: str
    words: Words
    telling: Words

    @classmethod
    def of(cls, database: Database, collection: Collection, query: str) -> _QueryWords:
        analyzer = find_analyzer(collection.analyzer)
        terms, telling = count_terms(analyzer(query)).ids, count_terms(analyzer(telling_part(query))).ids
        known = [int(id) for id in np.union1d(terms, telling)]
        statement = f"SELECT term, n_chunks FROM terms WHERE collection = ? AND term IN ({', '.join('?' * len(known))})"
        values = (collection.id, *known)
        rows = database.read(lambda connection: connection.execute(statement, values).fetchall())
        n_with = {row["term"]: row["n_chunks"] for row in rows}

        def weighed(ids: npt.NDArray[np.uint32], n_chunks: int) -> Words:
            return Words(ids, np.array([idf(n_chunks, n_with.get(int(id), 0)) for id in ids], np.float32))

        n_chunks = collection.n_chunks
        return cls(analyzer.name, weighed(terms, n_chunks), weighed(telling, max(n_chunks, LEAST_CHUNKS)))

    def coverage(self, terms: Terms) -> float:
        """How much of what the question's words tell stands in a chunk, from 0 to 1."""
        total = float(self.telling.weights.sum())
        is_shared = np.isin(self.telling.terms, terms.ids)
        return float(self.telling.weights[is_shared].sum()) / total if total else 0.0


def _among(database: Database, collection: Collection, only: Only) -> list[int] | None:
    """The chunks that a search is limited to."""
    wanted = {"document = ?": only.document, "speaker = ?": only.speaker}
    given = {condition: value for condition, value in wanted.items() if value is not None}
    if not given:
        return None
    query = f"SELECT id FROM chunks WHERE collection = ? AND {' AND '.join(given)}"
    values = (collection.id, *given.values())
    return [row["id"] for row in database.read(lambda connection: connection.execute(query, values).fetchall())]


def _read(database: Database, ids: Sequence[int]) -> dict[int, tuple[StoredChunk, Terms]]:
    """Those of the chunks that are still there."""
    query = f"""SELECT {stored.CHUNK_COLUMNS}, terms FROM {stored.CHUNK_TABLES}
        WHERE chunks.id IN ({", ".join("?" * len(ids))})"""
    rows = database.read(lambda connection: connection.execute(query, [*ids]).fetchall())
    return {row["id"]: (stored.read_chunk(row), Terms.from_bytes(row["terms"])) for row in rows}
