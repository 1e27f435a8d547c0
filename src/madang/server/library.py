"""The documents of a server: its collections, and the work that fills them. Nothing of it is there until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest

from madang.core.engine import Embedder
from madang.runtime.abilities import as_embedder
from madang.server.bridge import in_thread
from madang.server.ingests import Ingests
from madang.server.limits import Admission
from madang.server.state import ServerState
from madang.storage import Database

if TYPE_CHECKING:
    from madang.rag.collections import Collections


class Library:
    """Collections of every caller in one database, embedded by models of the pool."""

    def __init__(self, state: ServerState, database: Database, admission: Admission) -> None:
        self._state, self._database = state, database
        self._lock = Lock()
        self._collections: Collections | None = None
        self.ingests = Ingests(self.collections, lambda: admission.n_running > 0)

    def collections(self) -> Collections:
        """All of them. Raises what opening an index raises, as where the package for it is not installed."""
        with self._lock:
            if self._collections is None:
                from madang.rag.collections import Collections

                settings = self._state.settings
                self._collections = Collections(
                    self._database,
                    settings.home,
                    open_embedder=self._embedder,
                    qdrant_url=settings.qdrant_url,
                    qdrant_key=settings.qdrant_key,
                )
            return self._collections

    def close(self) -> None:
        """End what is under way and give the indexes back."""
        self.ingests.close()
        with self._lock:
            if self._collections is not None:
                self._collections.close()
                self._collections = None

    @contextmanager
    def _embedder(self, model: str) -> Iterator[Embedder]:
        with self._state.pool.lease(model) as loaded:
            yield as_embedder(loaded)


def library_of(http: HttpRequest) -> Library:
    """The one of the server."""
    library: Library = http.app.state.library
    return library


async def opened(http: HttpRequest) -> Collections:
    """Its collections, without holding up other requests when they are opened for the first time."""
    return await in_thread(partial(library_of(http).collections))
