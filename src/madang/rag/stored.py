"""What the database holds of collections, their documents and chunks, and how a row becomes each of them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from madang.core.errors import NotFound

_CHUNK_ID = re.compile(r"chk_([1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Documents that are searched together.

    id              internal: names are per owner, and can be given to another collection later
    analyzer        which words its texts are found by, see :mod:`madang.rag.lexical`
    n_dimensions    of its vectors; None before the first document
    n_terms         of all its chunks together
    size_bytes      of its documents' files
    revision        counts its changes
    """

    id: str
    owner: str
    name: str
    embedding_model: str
    analyzer: str
    n_dimensions: int | None
    n_documents: int
    n_chunks: int
    n_terms: int
    size_bytes: int
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def mean_terms(self) -> float:
        """Of a chunk."""
        return self.n_terms / max(self.n_chunks, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document of a collection, without its text.

    source        where it came from: a path or a name, one document each
    digest        of the file's bytes, as whoever added it computed it
    size_bytes    of the file
    """

    id: str
    collection: str
    source: str
    digest: str
    title: str
    media_type: str
    size_bytes: int
    n_characters: int
    n_chunks: int
    added_at: datetime
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A piece of a stored document: what is found and cited.

    collection    its name
    document      its document's id; ``title`` and ``source`` are the document's
    start, end    offsets in characters of the document's text
    """

    id: str
    collection: str
    document: str
    title: str
    source: str
    headings: tuple[str, ...]
    text: str
    start: int
    end: int
    n_tokens: int
    page: int | None
    speaker: str | None


@dataclass(frozen=True, slots=True)
class WholeDocument:
    """A stored document with its text and its chunks, in the order of the text."""

    document: StoredDocument
    text: str
    chunks: Sequence[StoredChunk]


COLLECTION_COLUMNS = """collections.*,
    (SELECT count(*) FROM documents WHERE documents.collection = collections.id) AS n_documents,
    (SELECT coalesce(sum(size_bytes), 0) FROM documents WHERE documents.collection = collections.id) AS size_bytes"""

DOCUMENT_COLUMNS = """documents.id, collections.name AS collection, documents.source, digest, title, media_type,
    size_bytes, n_characters, documents.n_chunks, facts, notes, added_at"""

CHUNK_COLUMNS = """chunks.id, collections.name AS collection, documents.id AS document, title, source, headings,
    substr(documents.text, start + 1, end - start) AS text, start, end, n_tokens, page, speaker"""

CHUNK_TABLES = """chunks JOIN documents ON documents.id = chunks.document
    JOIN collections ON collections.id = documents.collection"""


def read_collection(row: sqlite3.Row) -> Collection:
    """From :data:`COLLECTION_COLUMNS`."""
    fields = {name: row[name] for name in Collection.__dataclass_fields__}
    return Collection(**fields | {name: _time(row[name]) for name in ("created_at", "updated_at")})


def read_document(row: sqlite3.Row) -> StoredDocument:
    """From :data:`DOCUMENT_COLUMNS`."""
    facts, notes = json.loads(row["facts"]), tuple(json.loads(row["notes"]))
    return StoredDocument(**dict(row) | {"facts": facts, "notes": notes, "added_at": _time(row["added_at"])})


def read_chunk(row: sqlite3.Row) -> StoredChunk:
    """From :data:`CHUNK_COLUMNS`."""
    fields = {name: row[name] for name in StoredChunk.__dataclass_fields__}
    return StoredChunk(**fields | {"id": chunk_name(row["id"]), "headings": tuple(json.loads(row["headings"]))})


def chunk_name(id: int) -> str:
    """How a chunk is called outside of the database."""
    return f"chk_{id}"


def chunk_id(name: str) -> int:
    """The inverse. Raises NotFound for what is no such name."""
    match = _CHUNK_ID.fullmatch(name)
    if match is None:
        raise NotFound("chunk", name)
    return int(match[1])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
