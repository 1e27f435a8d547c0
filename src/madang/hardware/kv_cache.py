"""The size of the KV cache, exactly, and how layers share its pages.

A page holds 16 positions of the layers of one group. All pages have one size, so any page can serve any group and one
limit counts them all. A group's layers either all see everything, or all have a sliding window; of the latter, a
sequence holds only the pages that its next tokens can see (docs/decisions/0012).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from madang.formats.spec import DecoderSpec

# How the cache can keep keys and values: as float16, or as int8 with float32 scales (docs/decisions/0011).
KV_TYPES = ("f16", "int8")
KV_PAGE_TOKENS = 16
KV_KEY_GROUP = 32  # elements of an int8 key that share a scale; a value has one
KV_VALUE_MULTIPLE = 16  # elements of a vector; csrc/cache.cpp pads each value to it
MOST_PADDING = 1 / 16  # of all layers: what may be added to fill the last window group


@dataclass(frozen=True, slots=True)
class PageGroups:
    """Which layers lie in the same pages. The pages of the same 16 positions, one of each group, are a column.

    layers         per layer: its group; empty is one group of all. Groups that see everything come first
    n_lasting      groups whose pages last as long as the sequence
    n_window       groups of which only the last ``window_tokens`` positions are seen, at least a page
    """

    layers: tuple[int, ...] = ()
    n_lasting: int = 1
    n_window: int = 0
    window_tokens: int = KV_PAGE_TOKENS

    @property
    def n_groups(self) -> int:
        """All of them: the pages of a column."""
        return self.n_lasting + self.n_window

    def first_seen(self, n_tokens: int) -> int:
        """The first column of which a window group sees anything after so many tokens."""
        return max(n_tokens + 1 - self.window_tokens, 0) // KV_PAGE_TOKENS

    def first_held(self, n_tokens: int) -> int:
        """The first column of which a window group's page is held: one more, for a text that parts in the last one."""
        return max(self.first_seen(n_tokens) - 1, 0)

    def held_pages(self, n_columns: int, first_held: int) -> int:
        """Pages of so many columns, of window groups from the column ``first_held`` on."""
        return self.n_lasting * n_columns + self.n_window * (n_columns - first_held)

    def most_pages(self, n_tokens: int, step_tokens: int) -> int:
        """The most pages that a sequence of so many tokens holds at a time, read in steps of up to ``step_tokens``."""
        n_columns = _multiples(n_tokens, KV_PAGE_TOKENS)
        n_held = min(n_columns, _multiples(self.window_tokens + step_tokens - 2, KV_PAGE_TOKENS) + 2)
        return self.held_pages(n_columns, n_columns - n_held)


def page_groups(spec: DecoderSpec) -> PageGroups:
    """Groups of equally many layers: the largest that leave next to no room unused.

    Windows of the whole context are none; an encoder's pages last for one step, so it has one group.
    """
    windows = [0 if window >= spec.context_tokens else window for window in spec.window_tokens]
    n_window = sum(map(bool, windows))
    if n_window == 0 or not spec.causal:
        return PageGroups((0,) * spec.n_layers)
    n_full = spec.n_layers - n_window
    sizes = (size for size in range(n_full, 0, -1) if n_full % size == 0)
    size = next((s for s in sizes if -n_window % s <= MOST_PADDING * spec.n_layers), spec.n_layers)
    n_lasting = n_full // size
    counts = Counter[bool]()
    layers = []
    for window in windows:
        is_window = bool(window)
        layers.append(counts[is_window] // size + is_window * n_lasting)
        counts[is_window] += 1
    return PageGroups(tuple(layers), n_lasting, _multiples(n_window, size), max(*windows, KV_PAGE_TOKENS))


def kv_position_bytes(spec: DecoderSpec, kv_type: str = KV_TYPES[0]) -> int:
    """Bytes of the keys and values of one position in one layer.

    n_kv_heads · (head_dim for the key + head_dim padded to whole vectors for the value) elements; with "int8", keys are
    padded to whole groups and there are scales.
    """
    value_dim = _multiples(spec.head_dim, KV_VALUE_MULTIPLE) * KV_VALUE_MULTIPLE
    n_scales = _multiples(spec.head_dim, KV_KEY_GROUP)
    int8_bytes = (KV_KEY_GROUP + 4) * n_scales + value_dim + 4
    head_bytes = int8_bytes if kv_type == "int8" else 2 * (spec.head_dim + value_dim)
    return head_bytes * spec.n_kv_heads


def kv_cache_bytes(spec: DecoderSpec, tokens: int, *, kv_type: str = KV_TYPES[0], step_tokens: int = 1) -> int:
    """Bytes of the pages of one sequence of ``tokens`` positions; the most of them, where windows bound it.

    ``step_tokens`` are computed at a time.
    """
    groups = page_groups(spec)
    layers_per_page = max(Counter(groups.layers).values())
    page_bytes = kv_position_bytes(spec, kv_type) * KV_PAGE_TOKENS * layers_per_page
    return groups.most_pages(tokens, step_tokens) * page_bytes


def fitting_tokens(spec: DecoderSpec, room_bytes: int, *, kv_type: str = KV_TYPES[0], step_tokens: int = 1) -> int:
    """The longest context, in whole pages and up to the model's own, whose cache takes at most ``room_bytes``."""
    lengths = range(0, spec.context_tokens + KV_PAGE_TOKENS, KV_PAGE_TOKENS)

    def n_bytes(tokens: int) -> int:
        return kv_cache_bytes(spec, tokens, kv_type=kv_type, step_tokens=step_tokens)

    return lengths[max(bisect_right(lengths, room_bytes, key=n_bytes) - 1, 0)]


def _multiples(n: int, size: int) -> int:
    return -(-n // size)
