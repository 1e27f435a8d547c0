"""The cache of all sequences: pages for those that are computed, the prefix tree for what has been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.core.errors import NotEnoughMemory
from madang.native.pages import PAGE_TOKENS, PagePool
from madang.native.prefix_tree import PrefixTree
from madang.native.sequence import CachedSequence, Namespace


class PagedCache:
    """Gives sequences their pages, and shares what they have in common.

    A sequence that is *attached* holds a reference to each of its pages. Its full pages are in the tree as soon as
    they have been computed, so that others can use them; the last one, into which it writes, is its own.

    n_asked, n_found   tokens that were looked up in the tree, and of them, those that were there
    """

    def __init__(self, decoder: _core.Decoder, limit_bytes: int) -> None:
        self.pool = PagePool(decoder, limit_bytes)
        self.tree = PrefixTree(self.pool)
        self.n_asked = 0
        self.n_found = 0
        self._decoder = decoder

    def attach(self, sequence: CachedSequence) -> None:
        """Take over what the tree knows of its tokens; at least one is left to compute, for its logits."""
        limit = min(sequence.first_row, len(sequence.tokens) - 1)
        match = self.tree.match(sequence.namespace, sequence.tokens, limit)
        self.pool.share(match.pages)
        sequence.add_pages(match.pages)
        sequence.node, sequence.n_published = match.node, len(match.pages)
        sequence.n_computed = len(match.pages) * PAGE_TOKENS
        copy = self.pool.allocate(1) if match.partial is not None else None
        if match.partial is not None and copy is not None:
            self._decoder.copy_page(match.partial.page, copy[0])
            sequence.add_pages(copy)
            sequence.n_computed += match.n_partial
        self.n_asked += len(sequence.tokens)
        self.n_found += sequence.n_computed

    def grow(self, sequence: CachedSequence, n_tokens: int) -> bool:
        """Pages for so many more tokens, at the cost of the longest unused prefixes. False when they do not suffice."""
        missing = sequence.n_missing_pages(sequence.n_computed + n_tokens)
        if missing == 0:
            return True
        pages = self.pool.allocate(missing)
        while pages is None:
            if not self.tree.evict(missing):
                return False
            pages = self.pool.allocate(missing)
        sequence.add_pages(pages)
        return True

    def fill(self, namespace: Namespace, tokens: Sequence[int], contents: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Put saved pages into the tree. Raises NotEnoughMemory when they do not fit beside what is in use."""
        n = len(contents)
        if n > self.pool.n_obtainable:
            size = self._decoder.page_bytes
            raise NotEnoughMemory("The saved prefix", n * size, self.pool.n_obtainable * size)
        node = self.tree.root(namespace)
        held: list[int] = []
        for i, content in enumerate(contents):
            while (page := self.pool.allocate(1)) is None and self.tree.evict(1):
                pass
            if page is None:
                break  # the system has no memory left: what is there is a prefix, too
            self._decoder.write_page(page[0], content)
            node = self.tree.add(node, tokens[i * PAGE_TOKENS : (i + 1) * PAGE_TOKENS], page[0])
            self.pool.share((node.page,))  # until all are there, or making room for the next could take it
            self.pool.release(page)
            held.append(node.page)
        self.tree.touch(node)
        self.pool.release(held)

    def publish(self, sequence: CachedSequence) -> None:
        """Give the tree each page that has become full. Of two with the same tokens, and so the same bits, one goes."""
        while (sequence.n_published + 1) * PAGE_TOKENS <= sequence.n_computed:
            index = sequence.n_published
            page = sequence.pages[index]
            assert sequence.node is not None
            begin = index * PAGE_TOKENS
            sequence.node = self.tree.add(sequence.node, sequence.tokens[begin : begin + PAGE_TOKENS], page)
            sequence.n_published += 1
            if sequence.node.page != page:
                self.pool.share((sequence.node.page,))
                self.pool.release((page,))
                sequence.replace_page(index, sequence.node.page)

    def detach(self, sequence: CachedSequence, *, keep_tail: bool = True) -> None:
        """Take its pages back. The tree keeps the full ones, and with ``keep_tail`` the tokens that fill no page."""
        n_tail = sequence.n_computed - sequence.n_published * PAGE_TOKENS
        self.tree.touch(sequence.node)
        if keep_tail and sequence.node is not None and 0 < n_tail < PAGE_TOKENS:
            begin = sequence.n_computed - n_tail
            tail = sequence.tokens[begin : sequence.n_computed]
            self.tree.touch(self.tree.add(sequence.node, tail, sequence.pages[sequence.n_published]))
        self.pool.release(sequence.forget())
