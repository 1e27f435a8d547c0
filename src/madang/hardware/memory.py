"""How much memory a model takes: exact for the KV cache, an upper estimate for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from madang.formats.spec import DecoderSpec

KV_ELEMENT_BYTES = 2  # float16
KV_PAGE_TOKENS = 16
KV_VALUE_MULTIPLE = 16  # elements of a vector; csrc/cache.cpp pads each value to it
# Weights are kept in their own precision, padded to whole tiles; the largest growth is the one of small matrices.
REPACKED_FACTOR = 1.15
# Interpreter, vocabulary, logits and activations of one prompt chunk.
WORKING_BYTES = 150_000_000


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of a loaded model. The cache grows page by page and reaches ``kv_cache_bytes`` at the full context."""

    weights_bytes: int
    kv_cache_bytes: int
    working_bytes: int = WORKING_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.weights_bytes + self.kv_cache_bytes + self.working_bytes


def kv_cache_bytes(
    spec: DecoderSpec,
    tokens: int,
    *,
    element_bytes: int = KV_ELEMENT_BYTES,
    page_tokens: int = KV_PAGE_TOKENS,
    drop_beyond_window: bool = False,
) -> int:
    """Exact bytes of the keys and values of ``tokens`` positions of one sequence, in whole pages.

    element_bytes · n_kv_heads · (head_dim for the key + head_dim padded to whole vectors for the value) a
    position and layer. With ``drop_beyond_window``, layers with a sliding window keep only the pages that it can touch.
    """
    value_dim = -(-spec.head_dim // KV_VALUE_MULTIPLE) * KV_VALUE_MULTIPLE
    page_bytes = element_bytes * spec.n_kv_heads * (spec.head_dim + value_dim) * page_tokens
    n_pages = _pages(tokens, page_tokens)
    if not drop_beyond_window:
        return spec.n_layers * n_pages * page_bytes
    kept = (min(n_pages, _pages(window, page_tokens) + 1) if window else n_pages for window in spec.window_tokens)
    return sum(kept) * page_bytes


def estimate_weights_bytes(file_bytes: int) -> int:
    """Upper estimate of the resident weights of a file of so many bytes."""
    return round(file_bytes * REPACKED_FACTOR)


def fitting_tokens(spec: DecoderSpec, room_bytes: int) -> int:
    """The longest context, in whole pages, whose cache takes at most ``room_bytes``."""
    return max(room_bytes, 0) // kv_cache_bytes(spec, KV_PAGE_TOKENS) * KV_PAGE_TOKENS


def _pages(tokens: int, page_tokens: int) -> int:
    return -(-tokens // page_tokens)
