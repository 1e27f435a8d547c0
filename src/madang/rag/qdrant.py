"""A Qdrant server (package ``qdrant-client``), for more than one machine holds or for what others search as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from madang.core.errors import EngineUnavailable, InvalidRequest, StorageError
from madang.rag.vectors import Entry, Scored, Vector, Words

_DENSE, _SPARSE = "dense", "sparse"
_PAGE = 10_000
TIMEOUT_S = 30
STAND_IN = ":memory:"


def connect(url: str, key: str | None) -> Any:
    """A client of the server; nothing is sent yet. ":memory:" is the client's own stand-in for one.

    Raises EngineUnavailable without the package, InvalidRequest for what is no address.
    """
    if url != STAND_IN and not url.startswith(("http://", "https://")):
        raise InvalidRequest(
            f"'{url}' is not the address of a Qdrant server.", param="qdrant_url", hint="Such as http://localhost:6333."
        )
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise EngineUnavailable(
            f"The vectors are to lie on {url}, but Qdrant's client is not installed.",
            hint="pip install 'madang[qdrant]', or unset MADANG_QDRANT_URL",
        ) from error
    return QdrantClient(location=url, api_key=key, timeout=TIMEOUT_S, check_compatibility=False)


class QdrantIndex:
    """A :class:`~madang.rag.vectors.VectorIndex` in a collection of a server. Raises StorageError when it fails.

    is_new    it was made now
    """

    def __init__(self, client: Any, name: str, n_dimensions: int) -> None:
        """``client`` is the caller's to close."""
        from qdrant_client import models

        self._models: Any = models
        self._client, self._name = client, name
        with _failures_as_sentences():
            self.is_new = not client.collection_exists(name)
            if self.is_new:
                client.create_collection(
                    name,
                    vectors_config={_DENSE: models.VectorParams(size=n_dimensions, distance=models.Distance.DOT)},
                    sparse_vectors_config={_SPARSE: models.SparseVectorParams()},
                )

    def ids(self) -> set[int]:
        """See the protocol, as for all of these."""
        found: set[int] = set()
        offset: Any = None
        with _failures_as_sentences():
            while True:
                records, offset = self._client.scroll(
                    self._name, limit=_PAGE, offset=offset, with_payload=False, with_vectors=False
                )
                found.update(int(record.id) for record in records)
                if offset is None:
                    return found

    def put(self, entries: Sequence[Entry]) -> None:
        """Returns when the server has applied it."""
        with _failures_as_sentences():
            self._client.upsert(self._name, [self._point(entry) for entry in entries], wait=True)

    def remove(self, ids: Iterable[int]) -> None:
        """The same."""
        with _failures_as_sentences():
            self._client.delete(self._name, self._models.PointIdsList(points=[*ids]), wait=True)

    def nearest(self, vector: Vector, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """Exact up to the size at which the server builds its graph; from there on, nearly."""
        return self._query(vector.tolist(), _DENSE, limit, among)

    def matching(self, words: Words, limit: int, among: Sequence[int] | None = None) -> list[Scored]:
        """From an inverted index."""
        if not len(words.terms):
            return []
        sparse = self._models.SparseVector(indices=words.terms.tolist(), values=words.weights.tolist())
        return self._query(sparse, _SPARSE, limit, among)

    def flush(self) -> None:
        """The server keeps what it applied."""

    def close(self) -> None:
        """The server keeps the collection."""

    def delete(self) -> None:
        """The server forgets the collection."""
        with _failures_as_sentences():
            self._client.delete_collection(self._name)

    def _point(self, entry: Entry) -> Any:
        models = self._models
        vectors: dict[str, Any] = {
            _SPARSE: models.SparseVector(indices=entry.terms.tolist(), values=entry.weights.tolist())
        }
        if entry.vector is not None:
            vectors[_DENSE] = entry.vector.tolist()
        return models.PointStruct(id=entry.id, vector=vectors)

    def _query(self, query: Any, using: str, limit: int, among: Sequence[int] | None) -> list[Scored]:
        models = self._models
        only = None if among is None else models.Filter(must=[models.HasIdCondition(has_id=[*among])])
        with _failures_as_sentences():
            found = self._client.query_points(
                self._name, query=query, using=using, limit=limit, query_filter=only, with_payload=False
            )
        return [(int(point.id), float(point.score)) for point in found.points]


@contextmanager
def _failures_as_sentences() -> Iterator[None]:
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

    try:
        yield
    except ResponseHandlingException as error:
        raise StorageError(
            "The Qdrant server does not answer.", hint="Start it, or unset MADANG_QDRANT_URL to search without it."
        ) from error
    except (ApiException, QdrantException) as error:
        status = getattr(error, "status_code", None)
        what = "refused the key" if status in (401, 403) else f"answered with status {status}"
        raise StorageError(
            f"The Qdrant server {what}.", hint="Check MADANG_QDRANT_URL and MADANG_QDRANT_KEY."
        ) from error
