"""Texts to vectors with an encoder of transformers: some texts in each forward pass, their final states pooled."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from madang.core.engine import Embeddings, EngineInfo
from madang.core.errors import EngineError
from madang.engines.transformers.model import torch_errors
from madang.formats.spec import EmbeddingSpec, Pooling
from madang.formats.tokenizers import Tokenizer
from madang.hardware import Placement

_BATCH_TOKENS: Final = 8192  # padding included


class TorchEmbedder:
    """An embedding model in memory. Threads may share it and take turns. ``placement`` says where it runs, and why."""

    def __init__(
        self, info: EngineInfo, model: Any, tokenizer: Tokenizer, embedding: EmbeddingSpec, placement: Placement
    ) -> None:
        self.info = info
        self.placement = placement
        self._model = model
        self._tokenizer = tokenizer
        self._embedding = embedding
        self._turn = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors in the order of the texts.

        Raises ContextLengthExceeded for a text that is too long, before anything is computed; EngineError once closed.
        """
        encoded = [self._tokenizer.encode(text, parse_special=False) for text in texts]
        self.info.check_texts(encoded)
        vectors: list[list[float]] = [[] for _ in texts]
        for batch in _batches(encoded):
            with self._turn:
                found = self._vectors([encoded[index] for index in batch])
            for index, vector in zip(batch, found, strict=True):
                vectors[index] = vector
        return Embeddings(vectors, sum(map(len, encoded)))

    def close(self) -> None:
        """Free the weights; a second call does nothing."""
        with self._turn:
            self._model = None

    def _vectors(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        import torch

        if self._model is None:
            raise EngineError(f"The engine of {self.info.model} is closed.")
        device, n = self.placement.device.value, max(map(len, texts))
        padding = self._model.config.pad_token_id or 0
        with torch.inference_mode(), torch_errors():
            ids = torch.tensor([[*text, *[padding] * (n - len(text))] for text in texts], device=device)
            lengths = torch.tensor([len(text) for text in texts], device=device)
            mask = torch.arange(n, device=device)[None] < lengths[:, None]
            states = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
            vectors = _pooled(self._embedding.pooling, states, mask, lengths)
            if self._embedding.normalized:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            rows: list[list[float]] = vectors.cpu().tolist()
            return rows


def _pooled(pooling: Pooling, states_BTD: Any, mask_BT: Any, lengths_B: Any) -> Any:
    """B texts, T tokens with padding after them, D dimensions."""
    match pooling:
        case "mean":
            return (states_BTD * mask_BT[:, :, None]).sum(1) / lengths_B[:, None]
        case "cls":
            return states_BTD[:, 0]
        case "last":
            return states_BTD[range(len(lengths_B)), lengths_B - 1]


def _batches(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of texts that share a pass; those of like length, which need little padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        if batches and (len(batches[-1]) + 1) * len(texts[index]) <= _BATCH_TOKENS:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
