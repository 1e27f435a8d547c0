"""``/v1/rerank``, in the shape of Jina's and Cohere's APIs: which documents are closest to a query.

Closeness is the cosine of vectors of an embedding model: -1 to 1. A model that reads query and document together (a
cross-encoder) would tell better; none of the engines runs one yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, ClassVar

from madang.core.errors import InvalidRequest
from madang.server.openai.chat import IGNORED_EVERYWHERE
from madang.server.openai.embedding import MAX_TEXTS, embedded
from madang.server.state import ServerState
from madang.server.wire import Refused, WireRequest


class RerankRequest(WireRequest):
    """The body. A document is text, or an object with a ``text``."""

    model: str
    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    return_documents: bool | None = None

    IGNORED: ClassVar[Mapping[str, str]] = {**IGNORED_EVERYWHERE, "priority": "there is one queue"}
    REFUSED: ClassVar[Mapping[str, Refused]] = {
        "max_tokens_per_doc": Refused("documents are not cut; one that is too long is refused"),
        "max_chunks_per_doc": Refused("documents are not cut; one that is too long is refused"),
        "rank_fields": Refused("documents are texts here"),
    }

    @property
    def texts(self) -> list[str]:
        """Of all documents. Raises InvalidRequest when there are none, too many, or one has no text."""
        if not 1 <= len(self.documents) < MAX_TEXTS:
            raise InvalidRequest(
                f"{len(self.documents)} documents were given, but there must be from 1 to {MAX_TEXTS - 1}.",
                param="documents",
            )
        return [_text(document, f"documents.{i}") for i, document in enumerate(self.documents)]

    @property
    def n_results(self) -> int:
        """How many are wanted. Raises InvalidRequest for less than one."""
        if self.top_n is None:
            return len(self.documents)
        if self.top_n < 1:
            raise InvalidRequest(f"top_n is {self.top_n}, but must be 1 or more.", param="top_n")
        return self.top_n


async def rerank(state: ServerState, body: RerankRequest) -> dict[str, Any]:
    """The documents, closest first. Raises InvalidRequest, ContextLengthExceeded, and what loading raises."""
    warnings, texts, n_results = body.ignored(), body.texts, body.n_results
    vectors, prompt_tokens = await embedded(state, body.model, [body.query, *texts])
    scores = [_cosine(vectors[0], vector) for vector in vectors[1:]]
    closest_first = sorted(range(len(texts)), key=lambda i: scores[i], reverse=True)
    return {
        "model": body.model,
        "object": "list",
        "results": [
            {"index": i, "relevance_score": scores[i]}
            | ({"document": {"text": texts[i]}} if body.return_documents else {})
            for i in closest_first[:n_results]
        ],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        **({"madang": {"warnings": warnings}} if warnings else {}),
    }


def _text(document: str | Mapping[str, Any], place: str) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{place} has no text.", param=place)
    return text


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(mul, one, other)) / lengths if lengths > 0 else 0.0
