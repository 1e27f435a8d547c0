"""What the API takes and answers with about collections of documents. Offsets count characters of a document's text."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from madang.server.ingests import IngestState
from madang.server.manage.documents.base import Document, Failure, Request


class CollectionState(Document):
    """Documents that are searched together. ``size_bytes``: of their files."""

    name: str
    embedding_model: str
    n_documents: int
    n_chunks: int
    size_bytes: int
    created_at: datetime
    updated_at: datetime


class CollectionStates(Document):
    """The caller's, by name."""

    collections: list[CollectionState]


class CollectionRequest(Request):
    """A new collection. Its embedding model stays as it is; unset is the default one."""

    name: str = Field(max_length=256)
    embedding_model: str | None = Field(default=None, max_length=512)


class RemovedCollection(Document):
    """It is gone, with its documents."""

    name: str


class DocumentState(Document):
    """A document of a collection. ``facts``: speakers, date, author; ``notes``: what was left out, in sentences."""

    id: str
    title: str
    source: str
    media_type: str
    size_bytes: int
    n_characters: int
    n_chunks: int
    added_at: datetime
    facts: dict[str, Any]
    notes: list[str]


class DocumentStates(Document):
    """All of a collection, the last added first."""

    documents: list[DocumentState]


class ChunkPlace(Document):
    """A piece of a document's text."""

    id: str
    start: int
    end: int
    headings: list[str]
    page: int | None
    speaker: str | None


class WholeDocumentState(DocumentState):
    """With its text, and the pieces that are searched and cited."""

    text: str
    chunks: list[ChunkPlace]


class RemovedDocument(Document):
    """It is gone, and is not found any more."""

    id: str


class ChunkState(Document):
    """What a citation points to."""

    id: str
    collection: str
    document: str
    title: str
    source: str
    headings: list[str]
    text: str
    start: int
    end: int
    page: int | None
    speaker: str | None


class SearchRequest(Request):
    """What to look for. ``mode``: by words and meaning, or one of them; ``document`` and ``speaker`` narrow it.

    ``reranker`` is a model that reads the query with each of the best passages and orders them anew.
    """

    query: str = Field(min_length=1, max_length=20_000)
    limit: int = Field(default=8, ge=1, le=100)
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    document: str | None = Field(default=None, max_length=256)
    speaker: str | None = Field(default=None, max_length=256)
    reranker: str | None = Field(default=None, max_length=512)


class HitState(Document):
    """A chunk that was found. ``dense_score`` is a cosine; null where a chunk was not found in that way.

    ``rerank_score`` is from 0 to 1; null where no reranker was asked, or it does not know the language of the query.
    """

    rank: int
    score: float
    dense_score: float | None
    lexical_score: float | None
    rerank_score: float | None
    chunk: ChunkState


class SearchTimings(Document):
    """Seconds."""

    embed_s: float
    search_s: float
    rerank_s: float


class SearchState(Document):
    """The best first. ``is_relevant`` is false where an answer would be refused."""

    hits: list[HitState]
    is_relevant: bool
    timings: SearchTimings


class IngestProgress(Document):
    """A document on its way into a collection. ``document`` is its id, once it is there."""

    id: str
    collection: str
    name: str
    state: IngestState
    n_chunks: int | None
    n_embedded: int
    document: str | None
    error: Failure | None
    started_at: datetime


class IngestStates(Document):
    """The caller's: those that wait or are under way, and the last that are over."""

    ingests: list[IngestProgress]


class PathRequest(Request):
    """A file or folder of the server's machine, below one of the allowed roots."""

    path: str = Field(min_length=1, max_length=4096)
