"""Which index a collection's vectors lie in, and how it follows the database, which is the truth.

A change of a collection counts its revision up. Whoever searches compares that with the revision that the index has
followed, and puts and removes what differs: so a crash, a second process, a lost folder or an emptied server all end
in the same few lines. Chunks never change, so their ids tell all.

Only one process can hold the folder of the embedded index. Another one, such as a command beside a running
server, makes an exact index in its memory for as long as it lives: a little slower to begin with, and the same answers.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from madang.core.errors import StorageError
from madang.core.locking import Busy
from madang.rag import embedded
from madang.rag.exact import ExactIndex
from madang.rag.lexical import Terms
from madang.rag.stored import Collection
from madang.rag.vectors import Entry, VectorIndex
from madang.storage import Database

if TYPE_CHECKING:
    from madang.rag.qdrant import QdrantIndex

FOLDER = "rag"
MEAN_DRIFT = 0.05  # that the mean length may differ from the one that weights were made with
_PAGE = 500

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Follower:
    """An open index and how far it has followed.

    place       by which the database remembers it; None for one that lives in this process only
    ids         what it holds, once that was needed
    revision    of the collection that it has followed; None until it has
    """

    index: VectorIndex
    place: str | None
    n_dimensions: int
    ids: set[int] | None = None
    revision: int | None = None
    mean_terms: float | None = None
    lock: Lock = field(default_factory=Lock)


class Indexes:
    """The open indexes of all collections, for any thread."""

    def __init__(self, database: Database, home: Path, *, qdrant_url: str | None, qdrant_key: str | None) -> None:
        self._database = database
        self._folder = home / FOLDER
        self._url, self._key = qdrant_url, qdrant_key
        self._client: Any = None
        self._followers: dict[str, _Follower] = {}
        self._has_no_orphans = False
        self._lock = Lock()

    def follow(self, collection: Collection) -> VectorIndex | None:
        """The collection's index, as new as ``collection``; None while it has no chunks. Raises StorageError."""
        if collection.n_dimensions is None or collection.n_chunks == 0:
            return None
        with self._lock:
            follower = self._open(collection, collection.n_dimensions)
        with follower.lock:
            if follower.revision is None or follower.revision < collection.revision:
                self._catch_up(follower, collection)
        return follower.index

    def catch_up(self, collection: Collection) -> None:
        """The same ahead of the next search, where what is done outlives the process. What fails is done then."""
        try:
            if collection.n_dimensions is not None and self._lasts(collection, collection.n_dimensions):
                self.follow(collection)
        except StorageError as error:
            _log.warning("the index is behind: %s", error.message, extra={"collection": collection.name})

    def drop(self, id: str) -> None:
        """Forget the index of a collection that was removed. What cannot be deleted now is only logged."""
        with self._lock:
            follower = self._followers.pop(id, None)
            if follower is not None:
                follower.index.close()
            self._delete_folder(id)
            if self._url is not None:
                try:
                    self._at_server(id, 1).delete()
                except StorageError as error:
                    _log.warning("vectors stay on the server: %s", error.message, extra={"index": id})

    def close(self) -> None:
        """Give everything back; the next search opens it again."""
        with self._lock:
            for follower in self._followers.values():
                follower.index.close()
            self._followers.clear()
            if self._client is not None:
                self._client.close()
                self._client = None

    # ---- opening

    def _open(self, collection: Collection, n_dimensions: int) -> _Follower:
        follower = self._followers.get(collection.id)
        if follower is not None and not self._is_second_best(follower):
            return follower
        made = self._make(collection.id, n_dimensions, follower)
        if follower is not None and made is not follower:
            follower.index.close()
        self._followers[collection.id] = made
        return made

    def _lasts(self, collection: Collection, n_dimensions: int) -> bool:
        with self._lock:
            return self._open(collection, n_dimensions).place is not None

    def _is_second_best(self, follower: _Follower) -> bool:
        return follower.place is None and self._url is None and embedded.is_installed()

    def _make(self, id: str, n_dimensions: int, instead_of: _Follower | None) -> _Follower:
        if self._url is not None:
            at_server = self._at_server(id, n_dimensions)
            return self._remembered(id, _Follower(at_server, self._url, n_dimensions), at_server.is_new)
        if embedded.is_installed():
            self._delete_orphans()
            try:
                index = embedded.EmbeddedIndex(self._folder / id, n_dimensions)
            except Busy:
                if instead_of is not None:
                    return instead_of
                _log.info("another process holds the index; vectors are read from the database", extra={"index": id})
            else:
                return self._remembered(id, _Follower(index, "embedded", n_dimensions), index.is_new)
        return _Follower(ExactIndex(), None, n_dimensions)

    def _at_server(self, id: str, n_dimensions: int) -> QdrantIndex:
        from madang.rag.qdrant import QdrantIndex, connect

        if self._client is None:
            self._client = connect(str(self._url), self._key)
        return QdrantIndex(self._client, f"madang_{id}", n_dimensions)

    def _remembered(self, id: str, follower: _Follower, is_new: bool) -> _Follower:
        if is_new:
            self._forget(id, follower)
        else:
            state = self._state(id, follower)
            if state is not None:
                follower.revision, follower.mean_terms = state["revision"], state["mean_terms"]
        return follower

    def _delete_orphans(self) -> None:
        """Folders of collections that were removed while another process held them, or whose database is gone."""
        if self._has_no_orphans:
            return
        self._has_no_orphans = True
        found = {folder.name for folder in self._folder.glob("col_*/")}  # first: a collection is older than its folder
        rows = self._database.read(lambda connection: connection.execute("SELECT id FROM collections").fetchall())
        for id in found - {row["id"] for row in rows}:
            self._delete_folder(id)

    def _delete_folder(self, id: str) -> None:
        folder = self._folder / id
        if folder.exists():
            with suppress(Busy), embedded.held(folder):
                shutil.rmtree(folder, ignore_errors=True)

    # ---- following

    def _catch_up(self, follower: _Follower, collection: Collection) -> None:
        mean_terms = follower.mean_terms
        if follower.place is not None:  # another process may have put what a server holds
            state = self._state(collection.id, follower)
            mean_terms = None if state is None else float(state["mean_terms"])
        is_known = mean_terms is not None and abs(collection.mean_terms - mean_terms) <= MEAN_DRIFT * mean_terms
        if mean_terms is None or not is_known:
            self._forget(collection.id, follower)  # first: half of the new weights must not pass for all of them
            mean_terms = collection.mean_terms
        wanted = self._chunk_ids(collection.id)
        held = follower.index.ids() if follower.ids is None else follower.ids
        if surplus := held - wanted:
            follower.index.remove(surplus)
        missing = sorted(wanted - held if is_known else wanted)
        for begin in range(0, len(missing), _PAGE):
            follower.index.put(self._entries(missing[begin : begin + _PAGE], mean_terms))
        follower.index.flush()
        follower.ids, follower.revision, follower.mean_terms = wanted, collection.revision, mean_terms
        self._remember(collection.id, follower)

    def _chunk_ids(self, id: str) -> set[int]:
        query = "SELECT id FROM chunks WHERE collection = ?"
        rows = self._database.read(lambda connection: connection.execute(query, (id,)).fetchall())
        return {row["id"] for row in rows}

    def _entries(self, ids: Sequence[int], mean_terms: float) -> list[Entry]:
        """Chunks that were removed meanwhile are left out: the next revision says so."""
        query = f"SELECT id, vector, terms FROM chunks WHERE id IN ({', '.join('?' * len(ids))})"
        rows = self._database.read(lambda connection: connection.execute(query, [*ids]).fetchall())
        entries: list[Entry] = []
        for row in rows:
            terms = Terms.from_bytes(row["terms"])
            vector = None if row["vector"] is None else np.frombuffer(row["vector"], "<f2").astype(np.float32)
            entries.append(Entry(row["id"], vector, terms.ids, terms.weights(mean_terms)))
        return entries

    # ---- what the database remembers of an index that outlives the process

    def _state(self, id: str, follower: _Follower) -> sqlite3.Row | None:
        query = "SELECT * FROM vector_indexes WHERE collection = ? AND place = ?"
        row: sqlite3.Row | None = self._database.read(
            lambda connection: connection.execute(query, (id, follower.place)).fetchone()
        )
        return row

    def _remember(self, id: str, follower: _Follower) -> None:
        if follower.place is None:
            return
        row = (follower.place, follower.revision, follower.mean_terms, id)
        statement = "INSERT OR REPLACE INTO vector_indexes SELECT id, ?, ?, ? FROM collections WHERE id = ?"
        self._database.write(lambda connection: connection.execute(statement, row))

    def _forget(self, id: str, follower: _Follower) -> None:
        statement = "DELETE FROM vector_indexes WHERE collection = ? AND place = ?"
        if follower.place is not None:
            self._database.write(lambda connection: connection.execute(statement, (id, follower.place)))
