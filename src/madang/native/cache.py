"""The cache of all sequences: pages for those that are computed, the prefix tree for what has been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from madang.core.errors import NotEnoughMemory
from madang.hardware import PageGroups
from madang.native.page_table import KINDS, LASTING, WINDOW, PageTable
from madang.native.pages import PAGE_TOKENS, PagePool, PageStore, pages_for
from madang.native.prefix_tree import Match, PrefixTree
from madang.native.sequence import CachedSequence, Namespace


class SavedPages(NamedTuple):
    """What the pages of a sequence hold, in the order of ``PageTable.held``; see there for ``first_held``."""

    first_held: int
    contents: Sequence[npt.NDArray[np.uint8]]


class PagedCache:
    """Gives sequences their pages, and shares what they have in common.

    A sequence that is *attached* holds a reference to each of its pages, except those that no layer of their group sees
    any more. Its full pages are in the tree as soon as they have been computed, so that others can use them; the last
    ones, into which it writes, are its own.

    n_asked, n_found   tokens that were looked up in the tree, and of them, those that were there
    """

    def __init__(self, store: PageStore, limit_bytes: int, groups: PageGroups, step_tokens: int) -> None:
        """``step_tokens``: the most that a sequence computes at a time."""
        self.pool = PagePool(store, limit_bytes)
        self.tree = PrefixTree(self.pool, groups)
        self.groups = groups
        self.n_asked = 0
        self.n_found = 0
        self._store = store
        self._step_tokens = step_tokens

    def most_pages(self, n_tokens: int) -> int:
        """What a sequence of so many tokens holds at most."""
        return self.groups.most_pages(n_tokens, self._step_tokens)

    def n_missing(self, sequence: CachedSequence, n_tokens: int) -> int:
        """Pages that it may still need before so many of its tokens are computed."""
        step_tokens = max(min(self._step_tokens, n_tokens - sequence.n_computed), 1)
        return max(self.groups.most_pages(n_tokens, step_tokens) - sequence.pages.n_held, 0)

    def attach_apart(self, sequence: CachedSequence) -> None:
        """Let it have pages that nobody else sees."""
        sequence.pages = PageTable(self.groups)

    def attach(self, sequence: CachedSequence) -> None:
        """Take over what the tree knows of its tokens; at least one is left to compute, for its logits."""
        limit = min(sequence.first_row, len(sequence.tokens) - 1)
        match = self.tree.match(sequence.namespace, sequence.tokens, limit)
        sequence.pages = self._shared(match)
        sequence.node, sequence.n_published = match.node, len(match.path)
        sequence.n_computed = len(match.path) * PAGE_TOKENS
        copy = self.pool.allocate(self.groups.n_groups) if match.partial is not None else None
        if match.partial is not None and copy is not None:
            for source, target in zip(sum(match.partial.pages, ()), copy, strict=True):
                self._store.copy_page(source, target)
            sequence.pages.append(copy)
            sequence.n_computed += match.n_partial
        self.leave_behind(sequence)
        self.n_asked += len(sequence.tokens)
        self.n_found += sequence.n_computed

    def _shared(self, match: Match) -> PageTable:
        """The pages of a match, with a reference to each that is held."""
        table = PageTable(self.groups)
        unseen = (0,) * self.groups.n_window
        lasting = [page for node in match.path for page in node.pages[LASTING]]
        table.append(lasting + [page for node in match.path for page in node.pages[WINDOW] or unseen])
        table.first_held = match.first
        self.pool.share(table.held())
        return table

    def grow(self, sequence: CachedSequence, n_tokens: int) -> bool:
        """Pages for so many more tokens, at the cost of the longest unused prefixes. False when they do not suffice."""
        n_columns = pages_for(sequence.n_computed + n_tokens) - sequence.pages.n_columns
        if n_columns <= 0:
            return True
        pages = self._allocate(n_columns * self.groups.n_groups)
        if pages is None:
            return False
        sequence.pages.append(pages)
        return True

    def fill(self, namespace: Namespace, tokens: Sequence[int], saved: SavedPages) -> None:
        """Put saved pages into the tree. Raises NotEnoughMemory when they do not fit beside what is in use."""
        n = len(saved.contents)
        if n > self.pool.n_obtainable:
            size = self._store.page_bytes
            raise NotEnoughMemory("The saved prefix", n * size, self.pool.n_obtainable * size)
        node, contents = self.tree.root(namespace), iter(saved.contents)
        held: list[int] = []  # until all are there: making room for the next could take them
        n_lasting, n_groups = self.groups.n_lasting, self.groups.n_groups
        for index in range(pages_for(len(tokens))):
            pages = self._allocate(n_groups if index >= saved.first_held else n_lasting)
            if pages is None:
                break  # the system has no memory left: what is there is a prefix, too
            for page in pages:
                self._store.write_page(page, next(contents))
            chunk = tokens[index * PAGE_TOKENS : (index + 1) * PAGE_TOKENS]
            node = self.tree.add(node, chunk, (tuple(pages[:n_lasting]), tuple(pages[n_lasting:])))
            kept = [page for kind in KINDS for page in node.pages[kind]]
            self.pool.share(kept)
            self.pool.release(pages)
            held += kept
        self.tree.touch(node)
        self.pool.release(held)
        self.tree.prune(node)

    def publish(self, sequence: CachedSequence) -> None:
        """Give the tree each column that has become full. Of two with the same tokens, and so the same bits, one goes.

        What the next tokens do not see any more is left to the tree.
        """
        while (sequence.n_published + 1) * PAGE_TOKENS <= sequence.n_computed:
            index = sequence.n_published
            pages = sequence.pages.column(index)
            assert sequence.node is not None
            begin = index * PAGE_TOKENS
            node = self.tree.add(sequence.node, sequence.tokens[begin : begin + PAGE_TOKENS], pages)
            sequence.node = node
            sequence.n_published += 1
            for kind in KINDS:
                if node.pages[kind] != pages[kind]:
                    self.pool.share(node.pages[kind])
                    self.pool.release(pages[kind])
                    sequence.pages.replace(index, kind, node.pages[kind])
        self.leave_behind(sequence)

    def leave_behind(self, sequence: CachedSequence) -> None:
        """Let go of the pages that no layer of their group sees from the next token on."""
        self.pool.release(sequence.pages.leave_behind(sequence.n_computed))

    def detach(self, sequence: CachedSequence, *, keep_tail: bool = True) -> None:
        """Take its pages back. The tree keeps the full ones, and with ``keep_tail`` the tokens that fill no column."""
        n_tail = sequence.n_computed - sequence.n_published * PAGE_TOKENS
        self.tree.touch(sequence.node)
        if keep_tail and sequence.node is not None and 0 < n_tail < PAGE_TOKENS:
            begin = sequence.n_computed - n_tail
            tail = sequence.tokens[begin : sequence.n_computed]
            self.tree.touch(self.tree.add(sequence.node, tail, sequence.pages.column(sequence.n_published)))
        self.pool.release(sequence.forget())

    def _allocate(self, n: int) -> list[int] | None:
        """Pages, in place of the longest unused ones of the tree if need be; None when that does not suffice."""
        pages = self.pool.allocate(n)
        while pages is None and self.tree.evict(n):
            pages = self.pool.allocate(n)
        return pages
