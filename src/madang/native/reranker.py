"""How well documents fit a query, by a model that reads both together (a cross-encoder, arXiv:1901.04085)."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.engine import EngineInfo, Reranked
from madang.core.errors import ContextLengthExceeded, EngineError
from madang.formats.reading import OpenFile
from madang.formats.spec import ModelDescription
from madang.formats.tensors import DerivedTensor, TensorSource
from madang.formats.tokenizers import Tokenizer
from madang.native.whole_texts import read, steps

_LEAST_SHARE = 4  # of the context: what a query has to leave for documents


@dataclass(frozen=True, slots=True, eq=False)
class RankingHead:
    """From the final state of a pair's first token to its score.

    dense, dense_bias   float64 [n_embd, n_embd] and [n_embd]; None for heads of one layer
    output, bias        float64 [n_embd] and one number
    """

    dense: npt.NDArray[np.float64] | None
    dense_bias: npt.NDArray[np.float64] | None
    output: npt.NDArray[np.float64]
    bias: float

    @classmethod
    def of(cls, tensors: Mapping[str, TensorSource]) -> RankingHead:
        """Read it from the files of a description. Raises what reading them raises, MalformedFile."""
        values = {name: _values(tensor) for name, tensor in tensors.items() if name.startswith("rank_")}
        dense, bias = values.get("rank_dense"), values.get("rank_output.bias")
        dense_bias = values.get("rank_dense.bias")
        return cls(
            dense,
            None if dense_bias is None else dense_bias.reshape(-1),
            values["rank_output"].reshape(-1),
            0.0 if bias is None else float(bias.reshape(-1)[0]),
        )

    def score(self, state: npt.NDArray[np.float32]) -> float:
        """A logit, of float32 [n_embd]."""
        x = state.astype(np.float64)
        if self.dense is not None:
            x = self.dense @ x
            x = np.tanh(x if self.dense_bias is None else x + self.dense_bias)
        return float(self.output @ x) + self.bias


class NativeReranker:
    """A cross-encoder in memory. Pairs that share a step change no bit of each other's scores."""

    def __init__(
        self, info: EngineInfo, decoder: _core.Decoder, tokenizer: Tokenizer, description: ModelDescription
    ) -> None:
        self.info = info
        self._decoder: _core.Decoder | None = decoder
        self._tokenizer = tokenizer
        self._head = RankingHead.of(description.tensors)
        types = description.tensors.get("type_embedding")
        self._has_types = types is not None and len(types.shape) > 1 and types.shape[0] > 1
        self._one_at_a_time = threading.Lock()

    def rerank(self, query: str, documents: Sequence[str]) -> Reranked:
        """See core.engine.Reranker."""
        asked = self._encode(query)
        room_tokens = self.info.context_tokens - len(self._tokenizer.pair(asked, ())[0])
        if room_tokens < max(self.info.context_tokens // _LEAST_SHARE, 1):
            most = self.info.context_tokens - self.info.context_tokens // _LEAST_SHARE
            raise ContextLengthExceeded(len(asked), most)
        encoded = [self._encode(document) for document in documents]
        cut = [i for i, document in enumerate(encoded) if len(document) > room_tokens]
        pairs = [self._tokenizer.pair(asked, document[:room_tokens]) for document in encoded]
        lengths = [len(tokens) for tokens, _ in pairs]
        scores: list[float] = []
        with self._one_at_a_time:
            for together in steps(lengths):
                scores += self._run(pairs[together])
        return Reranked(scores, sum(lengths), cut)

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        with self._one_at_a_time:
            self._decoder = None

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)

    def _run(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """One forward step over some pairs."""
        if self._decoder is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        texts, types = zip(*pairs, strict=True)
        firsts = np.cumsum([0, *map(len, texts)])[:-1].tolist()
        read(self._decoder, texts, firsts, types=types if self._has_types else None)
        return [self._head.score(self._decoder.hidden(row)) for row in range(len(texts))]


def _values(tensor: TensorSource) -> npt.NDArray[np.float64]:
    """[rows, columns], as the products of the core would see it."""
    begin, end = tensor.file_range
    with OpenFile(tensor.path) as file:
        data = file.read(begin, end - begin)
    if isinstance(tensor, DerivedTensor):
        data = np.ascontiguousarray(tensor.make(data)).view(np.uint8).reshape(-1)
    n_rows = tensor.shape[0] if len(tensor.shape) == 2 else 1
    values: npt.NDArray[np.float64] = _core.unpacked(int(tensor.type), n_rows, tensor.shape[-1], data).astype(
        np.float64
    )
    return values
