"""What a loaded model can do, or one sentence that says what it does instead."""

from __future__ import annotations

from madang.core.engine import Embedder, Engine, Loaded
from madang.core.errors import InvalidRequest


def as_engine(loaded: Loaded) -> Engine:
    """The same model, to answer with. Raises InvalidRequest when it is not made for that."""
    if isinstance(loaded, Engine):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} makes vectors of texts, not answers.",
        param="model",
        hint="For answers, take a chat model; 'madang list' shows those of this machine.",
    )


def as_embedder(loaded: Loaded) -> Embedder:
    """The same model, to make vectors with. Raises InvalidRequest when it is not made for that."""
    if isinstance(loaded, Embedder):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} makes answers, not vectors.",
        param="model",
        hint="For vectors, take an embedding model such as bge-m3 or all-minilm.",
    )
