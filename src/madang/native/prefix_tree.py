"""What has been computed before: a tree of cache pages by the tokens that lead to them, shared by all requests.

A node owns one page. Full pages (16 tokens) have children and may be shared by running sequences, because nobody
writes into a full page. The tokens left over at the end of a conversation are a leaf of fewer tokens: whoever goes on
from there, or from the middle of a full page, copies it first.

Keys and values depend on more than tokens, so every namespace (which adapter, which set of rotary frequencies) has a
tree of its own. A token's bits do not depend on who computed it: of two pages with the same tokens, one can go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

from madang.native.pages import PAGE_TOKENS, PagePool


@dataclass(slots=True, weakref_slot=True, eq=False)
class Node:
    """Tokens and the page that holds them. A root has neither."""

    tokens: tuple[int, ...] = ()
    page: int = -1
    parent: Node | None = None
    children: dict[int, list[Node]] = field(default_factory=dict)  # by their first token


class Match(NamedTuple):
    """How much of a prompt is there.

    node      of the last full page; the root when there is none
    pages     full ones, in order, which can be shared
    partial   a page whose first ``n_partial`` tokens go on from there, which has to be copied; None when there is none
    """

    node: Node
    pages: list[int]
    partial: Node | None
    n_partial: int

    @property
    def n_tokens(self) -> int:
        """Tokens that need not be computed."""
        return len(self.pages) * PAGE_TOKENS + self.n_partial


class PrefixTree:
    """Pages by namespace and tokens; the longest unused go first.

    The order of use has every node before its ancestors: using a node uses all that leads to it. So what is oldest
    among the idle nodes has no children that are in use. ``n_evicted`` counts the pages that were given up.
    """

    def __init__(self, pool: PagePool) -> None:
        self.n_evicted = 0
        self._pool = pool
        # A root lives as long as its children and the sequences that began there: adapters and scales come and go.
        self._roots: WeakValueDictionary[Hashable, Node] = WeakValueDictionary()
        self._by_use: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        """Pages it keeps."""
        return len(self._by_use)

    @property
    def n_namespaces(self) -> int:
        """Those that hold pages, or are about to."""
        return len(self._roots)

    def root(self, namespace: Hashable) -> Node:
        """Where the tokens of a namespace begin."""
        return self._roots.setdefault(namespace, Node())

    def match(self, namespace: Hashable, tokens: Sequence[int], limit: int) -> Match:
        """The longest known prefix of ``tokens``, at most ``limit`` of them. Counts as a use."""
        node, pages = self.root(namespace), list[int]()
        while True:
            begin = len(pages) * PAGE_TOKENS
            child, n_same = _closest(node, tokens[begin : min(begin + PAGE_TOKENS, limit)])
            if child is None or n_same < PAGE_TOKENS:
                break
            node = child
            pages.append(child.page)
        if child is not None:
            self._by_use.move_to_end(child)
        self.touch(node)
        return Match(node, pages, child, n_same)

    def add(self, parent: Node, tokens: Sequence[int], page: int) -> Node:
        """Keep ``page``, which holds ``tokens`` after ``parent``, unless the tree has such a page; returns its node.

        Leaves that ``tokens`` goes on from are dropped. Fewer than 16 tokens are not added when a longer page is there.
        """
        chunk = tuple(tokens)
        for sibling in list(parent.children.get(chunk[0], ())):
            if sibling.tokens[: len(chunk)] == chunk:
                return sibling
            if chunk[: len(sibling.tokens)] == sibling.tokens:
                self._remove(sibling)
        node = Node(chunk, page, parent)
        parent.children.setdefault(chunk[0], []).append(node)
        self._by_use[node] = None
        self._pool.keep(page)
        return node

    def touch(self, node: Node | None) -> None:
        """A use of this node, and so of all that leads to it."""
        while node is not None and node.parent is not None:
            self._by_use.move_to_end(node)
            node = node.parent

    def evict(self, n: int) -> int:
        """Give up to ``n`` idle pages back, the longest unused first; returns how many."""
        oldest = [node for node, _ in zip(self._idle(), range(n), strict=False)]
        for node in oldest:
            self._remove(node)
        self.n_evicted += len(oldest)
        return len(oldest)

    def clear(self) -> None:
        """Give back everything that is idle."""
        self.evict(len(self))

    def _idle(self) -> Iterator[Node]:
        return (node for node in self._by_use if self._pool.is_idle(node.page))

    def _remove(self, node: Node) -> None:
        assert node.parent is not None
        assert not node.children
        siblings = node.parent.children[node.tokens[0]]
        siblings.remove(node)
        if not siblings:
            del node.parent.children[node.tokens[0]]
        del self._by_use[node]
        self._pool.drop(node.page)


def _closest(node: Node, tokens: Sequence[int]) -> tuple[Node | None, int]:
    """The child that begins most like ``tokens``, and how many are the same; None when not even the first is."""
    best, n_best = None, 0
    chunk = tuple(tokens)
    for child in node.children.get(chunk[0], ()) if chunk else ():
        n_same = _n_same(child.tokens, chunk)
        if n_same > n_best:
            best, n_best = child, n_same
    return best, n_best


def _n_same(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    if one == other:
        return len(one)
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
