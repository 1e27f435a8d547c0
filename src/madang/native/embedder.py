"""Texts to vectors: whole texts in one forward step, their final hidden states pooled."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.engine import Embeddings, EngineInfo
from madang.core.errors import ContextLengthExceeded, EngineError
from madang.formats.spec import EmbeddingSpec
from madang.formats.tokenizers import Tokenizer

Vector = npt.NDArray[np.float32]

_STEP_TOKENS = 512  # texts share a step up to here; a longer one has a step of its own


class NativeEmbedder:
    """An embedding model in memory. Texts that share a step do not see each other, nor does it change their bits."""

    def __init__(self, info: EngineInfo, decoder: _core.Decoder, tokenizer: Tokenizer, spec: EmbeddingSpec) -> None:
        self.info = info
        self._decoder: _core.Decoder | None = decoder
        self._tokenizer = tokenizer
        self._spec = spec
        self._one_at_a_time = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of length n_embd, in the order of the texts.

        Raises ContextLengthExceeded for a text that is too long, before anything is computed; EngineError once closed.
        """
        encoded = [self._tokenizer.encode(text, parse_special=False) for text in texts]
        for tokens in encoded:
            if len(tokens) > self.info.context_tokens:
                raise ContextLengthExceeded(len(tokens), self.info.context_tokens)
        vectors: list[list[float]] = []
        with self._one_at_a_time:
            for together in _steps(encoded):
                vectors += [vector.tolist() for vector in self._run(together)]
        return Embeddings(vectors, sum(map(len, encoded)))

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        with self._one_at_a_time:
            self._decoder = None

    def _run(self, texts: Sequence[Sequence[int]]) -> Iterator[Vector]:
        """One forward step over some texts; none of them is empty."""
        if self._decoder is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        lengths = [len(text) for text in texts]
        starts = np.cumsum([0, *lengths])
        rows = [range(end)[self._pooled(end)] for end in lengths]
        outputs = [start + row for start, pooled in zip(starts, rows, strict=False) for row in pooled]
        tables = _page_tables(lengths)
        self._decoder.reserve_pages(int(tables.max()) + 1)
        self._decoder.step(
            np.concatenate([np.array(text, np.int32) for text in texts]),
            np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
            np.repeat(np.arange(len(texts), dtype=np.int32), lengths),
            tables,
            np.array(outputs, np.int32),
            wants_logits=False,
        )
        row = 0
        for pooled in rows:
            states = np.stack([self._decoder.hidden(row + i) for i in range(len(pooled))])
            row += len(pooled)
            yield self._finished(states)

    def _pooled(self, n_tokens: int) -> slice:
        """Which tokens' states make the vector."""
        match self._spec.pooling:
            case "mean":
                return slice(None)
            case "cls":
                return slice(1)
            case "last":
                return slice(n_tokens - 1, None)

    def _finished(self, states: Vector) -> Vector:
        vector: npt.NDArray[np.float64] = states.mean(axis=0, dtype=np.float64)
        if self._spec.normalized:
            vector /= max(float(np.linalg.norm(vector)), 1e-12)
        return vector.astype(np.float32)


def _steps(texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Texts in order, as many together as fit into a step."""
    together: list[Sequence[int]] = []
    for text in texts:
        if together and sum(map(len, together)) + len(text) > _STEP_TOKENS:
            yield together
            together = []
        together.append(text)
    if together:
        yield together


def _page_tables(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    """Pages one after the other; -1 where a text has fewer than the longest."""
    counts = [-(-n // _core.PAGE_TOKENS) for n in lengths]
    tables = np.full((len(counts), max(counts)), -1, np.int32)
    first = 0
    for table, n in zip(tables, counts, strict=True):
        table[:n] = np.arange(first, first + n)
        first += n
    return tables
