"""A second look at what was found: a model reads the question together with each chunk, and orders them anew.

Only the order changes. Whether anything is relevant at all is decided as without it (:mod:`~madang.rag.relevance`): no
floor of such a model's scores was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from madang.core.engine import Reranker
from madang.rag.adding import indexed_text
from madang.rag.embedding import QUESTION_SHARE, ModelFacts
from madang.rag.stored import StoredChunk

OpenReranker: TypeAlias = Callable[[str], AbstractContextManager[Reranker]]

DEPTH = 50  # chunks that are read with the question: the best of the fusion


def can_rank(model: str, query: str) -> bool:
    """Whether the model has learned to read the question. Raises InvalidReference."""
    return ModelFacts.of(model).can_read(query, QUESTION_SHARE)


def rerank(
    open_reranker: OpenReranker, model: str, query: str, chunks: Mapping[int, StoredChunk]
) -> Sequence[tuple[int, float]]:
    """The ids of some chunks with how well each fits, from 0 to 1, the best first; of equals, in the order given.

    Raises what opening the model raises, and ContextLengthExceeded for a question that leaves no room for a chunk.
    """
    if not chunks:
        return []
    texts = [indexed_text(chunk.headings, chunk.text) for chunk in chunks.values()]
    with open_reranker(model) as reranker:
        ranked = reranker.rerank(query, texts)
    best_first = sorted(zip(ranked.scores, ranked.relevances, chunks, strict=True), key=lambda one: -one[0])
    return [(id, relevance) for _, relevance, id in best_first]
