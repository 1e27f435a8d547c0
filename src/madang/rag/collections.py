"""Collections of documents: added, listed, searched, removed. Each has an owner, and nobody finds those of others.

The database is the truth. A document appears in it whole, with its chunks and their vectors, in one transaction, and
takes the place of an older one from the same source; the index that is searched follows (:mod:`~madang.rag.indexes`).
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from madang.core.errors import InvalidRequest, NotFound
from madang.rag import stored
from madang.rag.adding import AddProgress, SilentAddProgress, Source, delete_document, insert_document, prepare
from madang.rag.documents import Document
from madang.rag.embedding import DEFAULT_MODEL, ModelFacts, OpenEmbedder
from madang.rag.indexes import Indexes
from madang.rag.lexical import default_analyzer, find_analyzer
from madang.rag.searching import DEFAULT_LIMIT, Found, Mode, Only, Searcher
from madang.rag.stored import Collection, StoredChunk, StoredDocument, WholeDocument
from madang.storage import Database

MOST_COLLECTIONS = 1000  # of one owner
MOST_SEARCHED = 16  # collections that one query may name
_NAME = re.compile(r"[^\W_](?:[\w. -]{0,62}\w)?")


class Collections:
    """Everybody's collections, for any number of threads and processes.

    Every method raises StorageError, and NotFound for what is not there or not the owner's.
    """

    def __init__(
        self,
        database: Database,
        home: Path,
        *,
        open_embedder: OpenEmbedder,
        qdrant_url: str | None = None,
        qdrant_key: str | None = None,
    ) -> None:
        self._database = database
        self._open_embedder = open_embedder
        self._indexes = Indexes(database, home, qdrant_url=qdrant_url, qdrant_key=qdrant_key)
        self._searcher = Searcher(database, self._indexes, open_embedder)

    # ---- collections

    def create(
        self, owner: str, name: str, embedding_model: str | None = None, *, analyzer: str | None = None
    ) -> Collection:
        """A new and empty one. Raises InvalidRequest for a name that is taken or cannot be, InvalidReference."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"'{name[:64]}' cannot name a collection: up to 64 letters, digits, spaces and . _ -, and a letter or "
                "digit first.",
                param="name",
            )
        model = ModelFacts.of(DEFAULT_MODEL if embedding_model is None else embedding_model).name
        chosen = default_analyzer() if analyzer is None else find_analyzer(analyzer).name
        now_s = time.time()
        row = (f"col_{secrets.token_hex(12)}", owner, name, model, chosen, now_s, now_s)

        def insert(connection: sqlite3.Connection) -> Collection:
            count = "SELECT count(*) FROM collections WHERE owner = ?"
            if connection.execute(count, (owner,)).fetchone()[0] >= MOST_COLLECTIONS:
                raise InvalidRequest(f"There are {MOST_COLLECTIONS} collections already, which is the limit.")
            connection.execute(
                "INSERT INTO collections (id, owner, name, embedding_model, analyzer, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            return _collection(connection, owner, name)

        try:
            return self._database.write(insert)
        except sqlite3.IntegrityError:
            raise InvalidRequest(f"There is a collection '{name}' already.", param="name") from None

    def get(self, owner: str, name: str) -> Collection:
        """One of them."""
        return self._database.read(lambda connection: _collection(connection, owner, name))

    def list(self, owner: str) -> Sequence[Collection]:
        """By name."""
        query = f"SELECT {stored.COLLECTION_COLUMNS} FROM collections WHERE owner = ? ORDER BY name"
        rows = self._database.read(lambda connection: connection.execute(query, (owner,)).fetchall())
        return [stored.read_collection(row) for row in rows]

    def remove(self, owner: str, name: str) -> None:
        """With its documents, and its vectors wherever they lie."""

        def delete(connection: sqlite3.Connection) -> str:
            id = _collection(connection, owner, name).id
            connection.execute("DELETE FROM collections WHERE id = ?", (id,))
            return id

        self._indexes.drop(self._database.write(delete))

    # ---- documents

    def unchanged(self, owner: str, name: str, source: str, digest: str) -> StoredDocument | None:
        """The document from this source, if the file was the same when it was added; so nobody need read it again."""
        return self._read_document(owner, name, "source = ? AND digest = ?", source, digest)

    def add(
        self,
        owner: str,
        name: str,
        document: Document,
        source: str,
        digest: str,
        *,
        progress: AddProgress | None = None,
        size_bytes: int | None = None,
    ) -> StoredDocument:
        """Keep a document and make it findable. One from the same source is replaced, or is the answer if unchanged.

        ``size_bytes`` is the file's; without it, the text's. Raises InvalidRequest for a document without words or a
        model that gives other vectors than before, and what opening the embedding model raises.
        """
        known = self.unchanged(owner, name, source, digest)
        if known is not None:
            return known
        collection = self.get(owner, name)
        analyzer = find_analyzer(collection.analyzer)
        facts = ModelFacts.of(collection.embedding_model)
        with self._open_embedder(collection.embedding_model) as embedder:
            watched = SilentAddProgress() if progress is None else progress
            prepared = prepare(document, embedder, facts, analyzer, watched)
        n_bytes = len(document.text.encode("utf-8", "replace")) if size_bytes is None else size_bytes

        def insert(connection: sqlite3.Connection) -> StoredDocument:
            current = _collection(connection, owner, name)
            if current.id != collection.id:  # removed meanwhile, and another one made with its name
                raise NotFound("collection", name)
            _check_dimensions(connection, current, prepared.n_dimensions)
            id = insert_document(connection, current.id, Source(source, digest, n_bytes), prepared)
            return _document(connection, owner, name, "documents.id = ?", id)

        added = self._database.write(insert)
        self._indexes.catch_up(self.get(owner, name))
        return added

    def documents(self, owner: str, name: str) -> Sequence[StoredDocument]:
        """The last added first."""

        def read(connection: sqlite3.Connection) -> Sequence[sqlite3.Row]:
            id = _collection(connection, owner, name).id
            query = f"""SELECT {stored.DOCUMENT_COLUMNS} FROM documents JOIN collections ON collections.id = collection
                WHERE collection = ? ORDER BY added_at DESC, source"""
            return connection.execute(query, (id,)).fetchall()

        return [stored.read_document(row) for row in self._database.read(read)]

    def document(self, owner: str, name: str, id: str) -> WholeDocument:
        """With its text and its chunks."""

        def read(connection: sqlite3.Connection) -> WholeDocument:
            document = _document(connection, owner, name, "documents.id = ?", id)
            text = connection.execute("SELECT text FROM documents WHERE id = ?", (id,)).fetchone()["text"]
            query = (
                f"SELECT {stored.CHUNK_COLUMNS} FROM {stored.CHUNK_TABLES} WHERE documents.id = ? ORDER BY start, end"
            )
            rows = connection.execute(query, (id,)).fetchall()
            return WholeDocument(document, text, [stored.read_chunk(row) for row in rows])

        return self._database.read(read)

    def remove_document(self, owner: str, name: str, id: str) -> None:
        """With its chunks and their vectors."""

        def delete(connection: sqlite3.Connection) -> None:
            collection = _collection(connection, owner, name)
            _document(connection, owner, name, "documents.id = ?", id)
            delete_document(connection, collection.id, id)

        self._database.write(delete)
        self._indexes.catch_up(self.get(owner, name))

    # ---- searching

    def search(
        self,
        owner: str,
        names: Sequence[str],
        query: str,
        *,
        limit: int = DEFAULT_LIMIT,
        mode: Mode = "hybrid",
        document: str | None = None,
        speaker: str | None = None,
    ) -> Found:
        """The chunks that say most about ``query``, of all collections together, and whether they say anything.

        ``document`` is an id, ``speaker`` a name as the document has it; only what is of them is found then.
        Raises InvalidRequest for limits that cannot be, and what opening the embedding model raises.
        """
        if not 1 <= len(set(names)) <= MOST_SEARCHED:
            raise InvalidRequest(f"A search is in 1 to {MOST_SEARCHED} collections.", param="collection")
        collections = [self.get(owner, name) for name in dict.fromkeys(names)]
        return self._searcher.search(collections, query, limit=limit, mode=mode, only=Only(document, speaker))

    def chunk(self, owner: str, name: str, id: str) -> StoredChunk:
        """One that was found, as long as its document stays as it is."""
        query = f"""SELECT {stored.CHUNK_COLUMNS} FROM {stored.CHUNK_TABLES}
            WHERE owner = ? AND collections.name = ? AND chunks.id = ?"""
        values = (owner, name, stored.chunk_id(id))
        row = self._database.read(lambda connection: connection.execute(query, values).fetchone())
        if row is None:
            raise NotFound("chunk", id)
        return stored.read_chunk(row)

    def close(self) -> None:
        """Let other processes have the indexes; a later search opens them again."""
        self._indexes.close()

    def _read_document(self, owner: str, name: str, where: str, *values: str) -> StoredDocument | None:
        def read(connection: sqlite3.Connection) -> StoredDocument | None:
            _collection(connection, owner, name)
            try:
                return _document(connection, owner, name, where, *values)
            except NotFound:
                return None

        return self._database.read(read)


def _collection(connection: sqlite3.Connection, owner: str, name: str) -> Collection:
    query = f"SELECT {stored.COLLECTION_COLUMNS} FROM collections WHERE owner = ? AND name = ?"
    row = connection.execute(query, (owner, name)).fetchone()
    if row is None:
        raise NotFound("collection", name, hint="See: madang rag list")
    return stored.read_collection(row)


def _document(connection: sqlite3.Connection, owner: str, name: str, where: str, *values: str) -> StoredDocument:
    query = f"""SELECT {stored.DOCUMENT_COLUMNS} FROM documents JOIN collections ON collections.id = collection
        WHERE owner = ? AND collections.name = ? AND {where}"""
    row = connection.execute(query, (owner, name, *values)).fetchone()
    if row is None:
        raise NotFound("document", values[0])
    return stored.read_document(row)


def _check_dimensions(connection: sqlite3.Connection, collection: Collection, n_dimensions: int) -> None:
    if collection.n_dimensions is None:
        connection.execute("UPDATE collections SET n_dimensions = ? WHERE id = ?", (n_dimensions, collection.id))
    elif collection.n_dimensions != n_dimensions:
        raise InvalidRequest(
            f"{collection.embedding_model} gives vectors of {n_dimensions} numbers now, and the collection "
            f"'{collection.name}' was made with {collection.n_dimensions}.",
            param="embedding_model",
            hint="Make a new collection, and add the documents to it.",
        )
