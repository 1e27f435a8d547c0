"""Texts to vectors: whole texts in one forward step, their final hidden states pooled."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.engine import Embeddings, EngineInfo, Trace
from madang.core.errors import EngineError, InvalidRequest
from madang.core.request import Request
from madang.formats.spec import DecoderSpec, EmbeddingSpec
from madang.formats.tokenizers import Tokenizer
from madang.native.tracing import as_trace_error, check_trace, no_lens

Vector = npt.NDArray[np.float32]

_STEP_TOKENS = 512  # texts share a step up to here; a longer one has a step of its own


class NativeEmbedder:
    """An embedding model in memory. Texts that share a step do not see each other, nor does it change their bits."""

    def __init__(
        self,
        info: EngineInfo,
        decoder: _core.Decoder,
        tokenizer: Tokenizer,
        spec: DecoderSpec,
        embedding: EmbeddingSpec,
    ) -> None:
        self.info = info
        self._decoder: _core.Decoder | None = decoder
        self._tokenizer = tokenizer
        self._spec = spec
        self._embedding = embedding
        self._one_at_a_time = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of length n_embd, in the order of the texts.

        Raises ContextLengthExceeded for a text that is too long, before anything is computed; EngineError once closed.
        """
        encoded = [self._tokenizer.encode(text, parse_special=False) for text in texts]
        self.info.check_texts(encoded)
        vectors: list[list[float]] = []
        with self._one_at_a_time:
            for together in _steps(encoded):
                vectors += [vector.tolist() for vector in self._run(together)]
        return Embeddings(vectors, sum(map(len, encoded)))

    def count_text_tokens(self, texts: Sequence[str]) -> list[int]:
        """See core.engine.TextTokenCounter."""
        return [len(self._tokenizer.encode(text, parse_special=False)) for text in texts]

    def trace(self, prompt: Request | Sequence[int], *, n_top: int = 0) -> Trace:
        """See core.engine.Tracer. Of a request, the raw prompt is read as a text to embed; there are no logits."""
        tokens = self._tokens(prompt)
        if n_top > 0:
            raise InvalidRequest(f"{self.info.model} writes no words, so it has no logit lens.", param="n_top")
        if not tokens:
            raise InvalidRequest("There is nothing to trace.", param="prompt")
        self.info.check_texts([tokens])
        check_trace(self._spec, tokens, n_top)
        with self._one_at_a_time:
            decoder = self._open_decoder()
            try:
                self._step(decoder, [tokens], (), trace=True)
                hidden, attention = decoder.traced_hidden(), decoder.traced_attention()
            except (MemoryError, ValueError) as error:
                raise as_trace_error(error, len(tokens)) from error
            finally:
                decoder.drop_trace()
        return Trace(tuple(tokens), hidden, attention, *no_lens(hidden))

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        with self._one_at_a_time:
            self._decoder = None

    def _run(self, texts: Sequence[Sequence[int]]) -> Iterator[Vector]:
        """One forward step over some texts; none of them is empty."""
        decoder = self._open_decoder()
        lengths = [len(text) for text in texts]
        starts = np.cumsum([0, *lengths])
        rows = [range(end)[self._pooled(end)] for end in lengths]
        outputs = [start + row for start, pooled in zip(starts, rows, strict=False) for row in pooled]
        self._step(decoder, texts, outputs)
        row = 0
        for pooled in rows:
            states = np.stack([decoder.hidden(row + i) for i in range(len(pooled))])
            row += len(pooled)
            yield self._finished(states)

    def _open_decoder(self) -> _core.Decoder:
        if self._decoder is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        return self._decoder

    def _tokens(self, prompt: Request | Sequence[int]) -> list[int]:
        if not isinstance(prompt, Request):
            return list(prompt)
        if prompt.prompt is None:
            raise InvalidRequest(f"{self.info.model} reads a text, not a conversation.", param="messages")
        return self._tokenizer.encode(prompt.prompt, parse_special=False)

    @staticmethod
    def _step(
        decoder: _core.Decoder, texts: Sequence[Sequence[int]], outputs: Sequence[int], *, trace: bool = False
    ) -> None:
        lengths = [len(text) for text in texts]
        tables = _page_tables(lengths)
        decoder.reserve_pages(int(tables.max()) + 1)
        decoder.step(
            np.concatenate([np.array(text, np.int32) for text in texts]),
            np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
            np.repeat(np.arange(len(texts), dtype=np.int32), lengths),
            tables,
            np.array(outputs, np.int32),
            wants_logits=False,
            trace=trace,
        )

    def _pooled(self, n_tokens: int) -> slice:
        """Which tokens' states make the vector."""
        match self._embedding.pooling:
            case "mean":
                return slice(None)
            case "cls":
                return slice(1)
            case "last":
                return slice(n_tokens - 1, None)

    def _finished(self, states: Vector) -> Vector:
        vector: npt.NDArray[np.float64] = states.mean(axis=0, dtype=np.float64)
        if self._embedding.normalized:
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
