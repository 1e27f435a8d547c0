"""The tables, as numbered steps. A step that was released is never changed; what comes later is a step of its own.

Times are seconds since 1970 in UTC. ``owner`` is the name of an API key, empty for whoever needs none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from madang.core.errors import StorageError

APPLICATION_ID = 0x6D616467  # "madg", in the file's header: a file of another program is not touched

Migration = tuple[str, ...]  # statements

MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE personas (
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            style TEXT NOT NULL,
            system TEXT NOT NULL,
            model TEXT,
            collections TEXT NOT NULL,
            PRIMARY KEY (owner, name)
        )""",
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            title TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            model TEXT,
            persona TEXT,
            context_policy TEXT NOT NULL,
            head TEXT
        )""",
        "CREATE INDEX sessions_by_owner ON sessions (owner, updated_at)",
        """CREATE TABLE messages (
            id TEXT PRIMARY KEY,
            session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            parent TEXT,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            parts TEXT NOT NULL,
            state TEXT NOT NULL,
            model TEXT,
            facts TEXT NOT NULL,
            created_at REAL NOT NULL
        )""",
        "CREATE INDEX messages_by_session ON messages (session, created_at)",
        """CREATE TABLE summaries (
            session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            digest TEXT NOT NULL,
            content TEXT NOT NULL,
            PRIMARY KEY (session, digest)
        )""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            owner TEXT NOT NULL,
            started_at REAL NOT NULL,
            model TEXT NOT NULL,
            status TEXT NOT NULL,
            facts TEXT NOT NULL
        )""",
        "CREATE INDEX runs_by_owner ON runs (owner, id)",
    ),
    (  # what a session is about, and who says so; described is at how many questions its model was asked
        "ALTER TABLE sessions ADD COLUMN title_by TEXT NOT NULL DEFAULT 'question'",
        "ALTER TABLE sessions ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE sessions ADD COLUMN tags_by TEXT NOT NULL DEFAULT 'model'",
        "ALTER TABLE sessions ADD COLUMN summary TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE sessions ADD COLUMN summary_by TEXT NOT NULL DEFAULT 'model'",
        "ALTER TABLE sessions ADD COLUMN described INTEGER NOT NULL DEFAULT 0",
    ),
    (  # Documents. An index of vectors is made from these, and can always be made again.
        """CREATE TABLE collections (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            embedding_model TEXT NOT NULL,
            analyzer TEXT NOT NULL,
            n_dimensions INTEGER,
            n_chunks INTEGER NOT NULL DEFAULT 0,
            n_terms INTEGER NOT NULL DEFAULT 0,
            revision INTEGER NOT NULL DEFAULT 0,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            UNIQUE (owner, name)
        )""",
        """CREATE TABLE documents (
            id TEXT PRIMARY KEY,
            collection TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
            source TEXT NOT NULL,
            digest TEXT NOT NULL,
            title TEXT NOT NULL,
            media_type TEXT NOT NULL,
            size_bytes INTEGER NOT NULL,
            n_characters INTEGER NOT NULL,
            n_chunks INTEGER NOT NULL,
            facts TEXT NOT NULL,
            notes TEXT NOT NULL,
            added_at REAL NOT NULL,
            text TEXT NOT NULL,
            UNIQUE (collection, source)
        )""",
        # An id is never given twice: an index that is behind must not take a new chunk for an old one.
        """CREATE TABLE chunks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            collection TEXT NOT NULL,
            document TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
            start INTEGER NOT NULL,
            end INTEGER NOT NULL,
            headings TEXT NOT NULL,
            n_tokens INTEGER NOT NULL,
            page INTEGER,
            speaker TEXT,
            vector BLOB,
            terms BLOB NOT NULL
        )""",
        "CREATE INDEX chunks_by_document ON chunks (document, start)",
        "CREATE INDEX chunks_by_collection ON chunks (collection, id)",
        """CREATE TABLE terms (
            collection TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
            term INTEGER NOT NULL,
            n_chunks INTEGER NOT NULL,
            PRIMARY KEY (collection, term)
        ) WITHOUT ROWID""",
        """CREATE TABLE vector_indexes (
            collection TEXT NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
            place TEXT NOT NULL,
            revision INTEGER NOT NULL,
            mean_terms REAL NOT NULL,
            PRIMARY KEY (collection, place)
        )""",
    ),
    (
        """CREATE TABLE experiments (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            made_at REAL NOT NULL,
            model TEXT NOT NULL,
            digest TEXT NOT NULL,
            seconds REAL NOT NULL,
            facts TEXT NOT NULL,
            document TEXT NOT NULL
        )""",
        "CREATE INDEX experiments_by_model ON experiments (model, id)",
    ),
)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring a database up to date: in one transaction, so it is of one version or of another.

    Raises StorageError for a file of a newer version, or of another program; sqlite3.Error as SQLite does.
    """
    if _version(connection) == len(migrations) and _application(connection) == APPLICATION_ID:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # again: another process may have been quicker
        _check(connection, version, len(migrations))
        for migration in migrations[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection, version: int, newest: int) -> None:
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not is_empty and _application(connection) != APPLICATION_ID:
        raise StorageError("The database is of another program.", hint="Move it away, or set another MADANG_HOME.")
    if version > newest:
        raise StorageError(
            f"The database is of version {version}, which a newer madang wrote; this one knows {newest}.",
            hint="Install the newer madang again, or set another MADANG_HOME.",
        )


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _application(connection: sqlite3.Connection) -> int:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return application
