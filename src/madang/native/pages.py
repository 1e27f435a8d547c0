"""Which pages of the KV cache are in use, and by how many.

A page holds the keys and values of 16 positions, of the layers of one group. Whoever writes into one holds it alone; a
full page never changes, so any number of sequences may share it. The prefix tree *keeps* pages that nobody uses at the
moment: they are idle, and taken back when memory is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from madang import _core

PAGE_TOKENS = _core.PAGE_TOKENS


class PageStore(Protocol):
    """Where the pages lie (``_core.Decoder`` is one). Pages are numbered from 0."""

    @property
    def n_pages(self) -> int:
        """Pages there is memory for."""

    @property
    def page_bytes(self) -> int:
        """Size of one."""

    def reserve_pages(self, n: int) -> None:
        """Make room for at least n; those that exist keep their content. Raises MemoryError."""

    def copy_page(self, source: int, target: int) -> None:
        """Give one the content of another."""

    def write_page(self, page: int, data: npt.NDArray[np.uint8]) -> None:
        """Give it content that was read from such a page."""


def pages_for(n_tokens: int) -> int:
    """How many pages of each group so many tokens take."""
    return -(-n_tokens // PAGE_TOKENS)


class PagePool:
    """Hands out pages, grows up to a limit, and counts every reference.

    limit_pages   the most there may be; falls to what there is when the system refuses more memory
    n_used        pages that anyone holds, idle ones included
    n_idle        pages that only the prefix tree holds
    """

    def __init__(self, store: PageStore, limit_bytes: int) -> None:
        self.limit_pages = limit_bytes // store.page_bytes
        self.n_used = 0
        self.n_idle = 0
        self._store = store
        self._references: list[int] = []
        self._is_kept = bytearray()
        self._free: list[int] = []

    @property
    def n_obtainable(self) -> int:
        """Pages that could be had at once if every idle one were given up."""
        return self.limit_pages - self.n_used + self.n_idle

    def allocate(self, n: int) -> list[int] | None:
        """``n`` pages with one reference each, or None when so many are not free; then nothing has changed.

        Those come last that have become free last, in that order: attention is faster over pages in order.
        """
        if len(self._free) < n:
            self._grow(n - len(self._free))
        if len(self._free) < n:
            return None
        first = len(self._free) - n
        pages = self._free[first:]
        del self._free[first:]
        for page in pages:
            self._references[page] = 1
        self.n_used += n
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """One more reference to each."""
        for page in pages:
            self.n_idle -= self.is_idle(page)
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One reference less to each; what nobody holds any more is free."""
        for page in pages:
            self._references[page] -= 1
            self.n_idle += self.is_idle(page)
            if self._references[page] == 0:
                self._free.append(page)
                self.n_used -= 1

    def keep(self, pages: Iterable[int]) -> None:
        """The prefix tree takes a reference to each."""
        for page in pages:
            self._references[page] += 1
            self._is_kept[page] = True

    def drop(self, pages: Iterable[int]) -> None:
        """The prefix tree gives its references back."""
        for page in pages:
            self.n_idle -= self.is_idle(page)
            self._is_kept[page] = False
            self.release((page,))

    def is_idle(self, page: int) -> bool:
        """Whether only the prefix tree holds it."""
        return self._references[page] == 1 and bool(self._is_kept[page])

    def _grow(self, n: int) -> None:
        """Up to ``n`` pages more, as far as the limit goes."""
        n_before = len(self._references)
        n_after = min(n_before + n, self.limit_pages)
        try:
            self._store.reserve_pages(n_after)
        except MemoryError:
            n_after = self.limit_pages = max(min(self._store.n_pages, n_after), n_before)
        self._references.extend([0] * (n_after - n_before))
        self._is_kept.extend(bytes(n_after - n_before))
        self._free[:0] = range(n_before, n_after)
