"""``/v1/rerank``, in the shape of Jina's and Cohere's APIs: which documents fit a query best.

A model that reads query and document together (a cross-encoder) scores each from 0 to 1. With an embedding model, the
score is the cosine of their vectors, from -1 to 1. The answer's ``madang.method`` says which it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from operator import mul
from typing import Any, ClassVar

from madang.core.engine import Embedder, Loaded, Reranker
from madang.core.errors import InvalidRequest
from madang.server.bridge import in_thread, leased, placed
from madang.server.names import leasable
from madang.server.openai.chat import IGNORED_EVERYWHERE
from madang.server.openai.embedding import MAX_TEXTS, TOGETHER, embedded_by
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
        "max_tokens_per_doc": Refused("how much of a document is read is up to the model"),
        "max_chunks_per_doc": Refused("how much of a document is read is up to the model"),
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
    """The documents, the best first. Raises InvalidRequest, ContextLengthExceeded, and what loading raises."""
    warnings, texts, n_results = body.ignored(), body.texts, body.n_results
    async with leased(state.pool, leasable(body.model, state.store)) as loaded:
        if isinstance(loaded, Reranker):
            method = "cross-encoder"
            scores, prompt_tokens, n_cut = await _read_together(loaded, body.query, texts)
            if n_cut:
                n = "1 document is" if n_cut == 1 else f"{n_cut} documents are"
                warnings.append(f"{n} longer than the model's context; only the beginning was read.")
        else:
            method = "cosine"
            vectors, prompt_tokens = await embedded_by(_compared(loaded), [body.query, *texts])
            scores = [_cosine(vectors[0], vector) for vector in vectors[1:]]
    best_first = sorted(range(len(texts)), key=lambda i: scores[i], reverse=True)
    return {
        "model": body.model,
        "object": "list",
        "results": [
            {"index": i, "relevance_score": scores[i]}
            | ({"document": {"text": texts[i]}} if body.return_documents else {})
            for i in best_first[:n_results]
        ],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        "madang": {"method": method, **({"warnings": warnings} if warnings else {})},
    }


async def _read_together(reranker: Reranker, query: str, texts: Sequence[str]) -> tuple[list[float], int, int]:
    """How well each text fits, from 0 to 1; the tokens that were read; how many texts were cut."""
    relevances: list[float] = []
    prompt_tokens = n_cut = 0
    for begin in range(0, len(texts), TOGETHER):
        async with placed(reranker):
            some = await in_thread(partial(reranker.rerank, query, texts[begin : begin + TOGETHER]))
        relevances += some.relevances
        prompt_tokens += some.prompt_tokens
        n_cut += len(some.cut)
    return relevances, prompt_tokens, n_cut


def _compared(loaded: Loaded) -> Embedder:
    """Raises InvalidRequest for a model that answers."""
    if isinstance(loaded, Embedder):
        return loaded
    raise InvalidRequest(
        f"{loaded.info.model} makes answers; it does not compare texts with a query.",
        param="model",
        hint="Take a reranker such as bge-reranker-v2-m3, or an embedding model such as bge-m3.",
    )


def _text(document: str | Mapping[str, Any], place: str) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{place} has no text.", param=place)
    return text


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(mul, one, other)) / lengths if lengths > 0 else 0.0
