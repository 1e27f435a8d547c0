"""One sequence in the paged KV cache: which tokens are in it, and the forward steps that put them there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.errors import NotEnoughMemory

PAGE_TOKENS = _core.PAGE_TOKENS
_NO_OUTPUT = np.empty(0, np.int32)
_ONLY_SEQUENCE = np.zeros(1, np.int32)


class CachedSequence:
    """Tokens whose keys and values are in the cache, and the table of the pages that hold them.

    ``tokens`` always tells the truth: a step that did not happen adds nothing, so an abandoned request leaves a prefix
    that the next one can use.
    """

    def __init__(self, decoder: _core.Decoder) -> None:
        self.decoder = decoder
        self.tokens: list[int] = []
        self._page_table: npt.NDArray[np.int32] = np.empty((1, 0), np.int32)

    def keep_common_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what differs from ``tokens``; returns how many of them are in the cache.

        The last token is never counted: its logits are needed, and they are not kept.
        """
        limit = min(len(self.tokens), len(tokens) - 1)
        n_same = next((i for i in range(limit) if self.tokens[i] != tokens[i]), max(limit, 0))
        del self.tokens[n_same:]
        return n_same

    def read(self, tokens: Sequence[int], chunk_tokens: int) -> None:
        """Append tokens, in chunks so that Ctrl-C stops a long prompt; the logits of the last are in row 0."""
        for begin in range(0, len(tokens), chunk_tokens):
            chunk = tokens[begin : begin + chunk_tokens]
            self._step(chunk, wants_logits=begin + chunk_tokens >= len(tokens))

    def append(self, token: int) -> None:
        """Append one token; its logits are in row 0."""
        self._step((token,), wants_logits=True)

    def _step(self, tokens: Sequence[int], *, wants_logits: bool) -> None:
        n, start = len(tokens), len(self.tokens)
        self._reserve(start + n)
        outputs = np.array([n - 1], np.int32) if wants_logits else _NO_OUTPUT
        positions = np.arange(start, start + n, dtype=np.int32)
        sequences = _ONLY_SEQUENCE if n == 1 else np.zeros(n, np.int32)
        self.decoder.step(np.array(tokens, np.int32), positions, sequences, self._page_table, outputs)
        self.tokens.extend(tokens)

    def _reserve(self, n_tokens: int) -> None:
        n_pages = -(-n_tokens // PAGE_TOKENS)
        if n_pages <= self._page_table.shape[1]:
            return
        try:
            self.decoder.reserve_pages(n_pages)
        except MemoryError as error:
            missing = (n_pages - self.decoder.n_pages) * self.decoder.page_bytes
            raise NotEnoughMemory(f"The cache for {n_tokens} tokens", missing, None) from error
        self._page_table = np.arange(n_pages, dtype=np.int32)[None]
