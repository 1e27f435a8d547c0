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
from madang.native.whole_texts import read, steps

Vector = npt.NDArray[np.float32]


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
            for together in steps([len(text) for text in encoded]):
                vectors += [vector.tolist() for vector in self._run(encoded[together])]
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
                read(decoder, [tokens], (), trace=True)
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
        read(decoder, texts, outputs)
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
