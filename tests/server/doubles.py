"""What stands in for a pool and its models: the echo, an engine that follows a script, vectors of letters."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from madang.core import (
    ContextLedger,
    Done,
    Embeddings,
    EngineInfo,
    Event,
    Loaded,
    Request,
    Reranked,
    Timings,
    Usage,
)
from madang.core.errors import ContextLengthExceeded, ModelNotFound
from madang.core.events import FinishReason


def done(finish_reason: FinishReason = "stop", *, prompt: int = 7, cached: int = 3, completion: int = 5) -> Done:
    return Done(
        finish_reason,
        Usage(prompt, cached, completion),
        Timings(0.0, 0.0, 0.5, 2.0, 0.6, prompt - cached, completion - 1),
        ContextLedger(100, prompt, cached, prompt, 0, completion),
        seed=42,
    )


class Scripted:
    """Sends what it was given, whatever it is asked; an exception in the script is raised. Keeps the requests."""

    def __init__(self, *script: Event | Exception, max_concurrency: int = 4) -> None:
        self.info = EngineInfo("scripted", "scripted", 100, max_concurrency)
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._script = script

    def generate(self, request: Request) -> Iterator[Event]:
        self.requests.append(request)
        try:
            for event in self._script:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.ended.set()

    def count_tokens(self, request: Request) -> int:
        return sum(len(message.content) for message in request.messages)

    def close(self) -> None:
        pass


class Letters:
    """Vectors of 26 numbers: how often each letter is there. A text of more than 50 characters is too long."""

    info = EngineInfo("letters", "letters", 50)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        for text in texts:
            if len(text) > 50:
                raise ContextLengthExceeded(len(text), 50)
        vectors = [[float(text.count(chr(ord("a") + i))) for i in range(26)] for text in texts]
        return Embeddings(vectors, sum(map(len, texts)))

    def close(self) -> None:
        pass


class Agreement:
    """A reranker: a document fits the better, the more of its characters are the query's. 20 characters are read."""

    info = EngineInfo("agreement", "agreement", 50)

    def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        scores = [float(sum(character in query for character in document[:20])) for document in documents]
        cut = [i for i, document in enumerate(documents) if len(document) > 20]
        return Reranked(scores, sum(len(query) + len(document) for document in documents), cut)

    def close(self) -> None:
        pass


class Models:
    """A pool of models that are always loaded. Counts the leases that are held."""

    def __init__(self, models: Mapping[str, Loaded]) -> None:
        self.models = dict(models)
        self.n_leases = 0
        self.is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> Iterator[Loaded]:
        if reference not in self.models:
            raise ModelNotFound(reference, [*self.models])
        self._count(1)
        try:
            yield self.models[reference]
        finally:
            self._count(-1)

    def unload(self, reference: str) -> bool:
        return self.models.pop(reference, None) is not None

    def resident(self) -> list[object]:
        return []

    def close(self) -> None:
        self.is_closed = True

    def _count(self, change: int) -> None:
        with self._lock:
            self.n_leases += change
