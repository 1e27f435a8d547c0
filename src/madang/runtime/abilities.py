"""What a loaded model can do, or one sentence that says what it does instead."""

from __future__ import annotations

from madang.core.engine import Embedder, Engine, Loaded, Reranker
from madang.core.errors import InvalidRequest


def as_engine(loaded: Loaded) -> Engine:
    """The same model, to answer with. Raises InvalidRequest when it is not made for that."""
    if isinstance(loaded, Engine):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} {_does(loaded)}, not answers.",
        param="model",
        hint="For answers, take a chat model; 'madang list' shows those of this machine.",
    )


def as_embedder(loaded: Loaded) -> Embedder:
    """The same model, to make vectors with. Raises InvalidRequest when it is not made for that."""
    if isinstance(loaded, Embedder):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} {_does(loaded)}, not vectors.",
        param="model",
        hint="For vectors, take an embedding model such as bge-m3 or all-minilm.",
    )


def as_reranker(loaded: Loaded) -> Reranker:
    """The same model, to compare texts with a query. Raises InvalidRequest when it is not made for that."""
    if isinstance(loaded, Reranker):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} {_does(loaded)}; it does not compare texts with a query.",
        param="model",
        hint="For that, take a reranker such as bge-reranker-v2-m3.",
    )


def _does(loaded: Loaded) -> str:
    if isinstance(loaded, Reranker):
        return "tells how well texts fit a query"
    return (
        "makes vectors of texts" if isinstance(loaded, Embedder) and not isinstance(loaded, Engine) else "makes answers"
    )
