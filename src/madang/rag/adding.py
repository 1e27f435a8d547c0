"""From a document to the rows that it is kept in: cut, read by the embedding model, its words counted.

What takes long comes first and touches nothing; the rows are then written in one transaction.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from madang.core.engine import Embedder
from madang.core.errors import InvalidRequest
from madang.rag.chunking import split
from madang.rag.documents import Chunk, Document
from madang.rag.embedding import ModelFacts, chunk_budget, counter_of, embed_passages, embed_query
from madang.rag.lexical import Analyzer, Terms, count_terms
from madang.rag.vectors import Vector

# What SQLite's substr or UTF-8 would stumble over; one character for another, so that offsets stay.
_UNKEPT = re.compile("[\x00\ud800-\udfff]")


class AddProgress(Protocol):
    """Told how adding a document goes on. What it raises stops the work, and nothing is stored.

    A document that is there already causes no call at all.
    """

    def split(self, n_chunks: int) -> None:
        """Called once: the document has so many chunks."""

    def embedded(self, n_chunks: int) -> None:
        """So many more of them have been read by the model."""


class SilentAddProgress:
    """For callers that do not watch."""

    def split(self, n_chunks: int) -> None:
        """Ignored."""

    def embedded(self, n_chunks: int) -> None:
        """Ignored."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document came from, by what it is known again, and how large the file is."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A document with all that its rows hold. One vector, or None, and one Terms for each chunk."""

    document: Document
    n_dimensions: int
    chunks: Sequence[Chunk]
    vectors: Sequence[Vector | None]
    terms: Sequence[Terms]
    notes: tuple[str, ...]


def prepare(
    document: Document, embedder: Embedder, facts: ModelFacts, analyzer: Analyzer, progress: AddProgress
) -> Prepared:
    """Raises InvalidRequest for a document without words, and what ``progress`` raises."""
    document = _keepable(document)
    if not document.text.strip() or not document.sections:
        raise InvalidRequest(f"'{document.title}' has no text that could be found.", param="document")
    count = counter_of(embedder, facts, document.text)
    chunks = split(document, count, budget_tokens=chunk_budget(embedder))
    progress.split(len(chunks))
    texts = [indexed_text(chunk.headings, chunk.text) for chunk in chunks]
    vectors: list[Vector | None] = []
    for batch in embed_passages(embedder, facts, texts):
        vectors += batch
        progress.embedded(len(batch))
    n_unread = sum(vector is None for vector in vectors)
    is_unread = [f"{facts.name} does not know the language of {n_unread} of {len(chunks)} chunks; words find them."]
    return Prepared(
        document=document,
        n_dimensions=next((len(v) for v in vectors if v is not None), 0) or len(embed_query(embedder, facts, "a")),
        chunks=chunks,
        vectors=vectors,
        terms=[count_terms(analyzer(text)) for text in texts],
        notes=(*document.notes, *(is_unread if n_unread else ())),
    )


def _keepable(document: Document) -> Document:
    """Without characters that the database cannot keep, in the same places."""
    sections = tuple(
        replace(section, headings=tuple(_UNKEPT.sub("\ufffd", heading) for heading in section.headings))
        for section in document.sections
    )
    title, text = (_UNKEPT.sub("\ufffd", value) for value in (document.title, document.text))
    return replace(document, title=title, text=text, sections=sections)


def indexed_text(headings: Sequence[str], text: str) -> str:
    """What a chunk is found by: the headings that it stands under say what it is about."""
    return "\n".join((" > ".join(headings), text)) if headings else text


def insert_document(connection: sqlite3.Connection, collection: str, source: Source, prepared: Prepared) -> str:
    """Its id: that of the document from the same source, which it replaces, or a new one."""
    query = "SELECT id FROM documents WHERE collection = ? AND source = ?"
    row = connection.execute(query, (collection, source.name)).fetchone()
    if row is not None:
        delete_document(connection, collection, row["id"])
    id = f"doc_{secrets.token_hex(12)}" if row is None else row["id"]
    document, text = prepared.document, prepared.document.text
    values = (
        *(id, collection, source.name, source.digest, document.title, document.media_type, source.size_bytes),
        *(len(text), len(prepared.chunks), json.dumps(dict(document.facts)), json.dumps(prepared.notes)),
        *(time.time(), text),
    )
    connection.execute(f"INSERT INTO documents VALUES ({', '.join('?' * len(values))})", values)
    connection.executemany(
        "INSERT INTO chunks (collection, document, start, end, headings, n_tokens, page, speaker, vector, terms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(collection, id, chunk.start, chunk.end, json.dumps(chunk.headings), chunk.n_tokens),
                *(chunk.page, chunk.speaker, None if vector is None else vector.astype("<f2").tobytes()),
                terms.to_bytes(),
            )
            for chunk, vector, terms in zip(prepared.chunks, prepared.vectors, prepared.terms, strict=True)
        ],
    )
    _count(connection, collection, prepared.terms, 1)
    return id


def delete_document(connection: sqlite3.Connection, collection: str, id: str) -> None:
    """With its chunks, and what its words counted."""
    rows = connection.execute("SELECT terms FROM chunks WHERE document = ?", (id,)).fetchall()
    _count(connection, collection, [Terms.from_bytes(row["terms"]) for row in rows], -1)
    connection.execute("DELETE FROM documents WHERE id = ?", (id,))


def _count(connection: sqlite3.Connection, collection: str, terms: Sequence[Terms], sign: int) -> None:
    """In how many chunks each term stands, and how many there are of both."""
    n_chunks = Counter(id for of_chunk in terms for id in of_chunk.ids.tolist())
    connection.executemany(
        "INSERT INTO terms VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n_chunks = n_chunks + excluded.n_chunks",
        [(collection, id, sign * n) for id, n in sorted(n_chunks.items())],
    )
    if sign < 0:
        connection.executemany(
            "DELETE FROM terms WHERE collection = ? AND term = ? AND n_chunks <= 0",
            [(collection, id) for id in sorted(n_chunks)],
        )
    connection.execute(
        "UPDATE collections SET n_chunks = n_chunks + ?, n_terms = n_terms + ?, updated_at = ?, "
        "revision = revision + 1 WHERE id = ?",
        (sign * len(terms), sign * sum(of_chunk.n_terms for of_chunk in terms), time.time(), collection),
    )
