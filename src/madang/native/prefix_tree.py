"""What has been computed before: a tree of cache pages by the tokens that lead to them, shared by all requests.

A node owns a column: the pages of some positions, one for each group of layers (native/page_table.py). Full columns (16
tokens) have children and may be shared by running sequences, because nobody writes into a full page. The tokens left
over at the end of a conversation are a leaf of fewer tokens: whoever goes on from there, or from the middle of a full
column, copies it first.

Layers with a window see only the last columns of a text. So a node may lose the pages of their groups and serve on:
a prefix is of use as long as the columns are whole that its next token sees.

Keys and values depend on more than tokens, so every namespace (which adapter, which set of rotary frequencies) has a
tree of its own. A token's bits do not depend on who computed it: of two pages with the same tokens, one can go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakValueDictionary

from madang.hardware import PageGroups
from madang.native.page_table import KINDS, LASTING, WINDOW, Pages
from madang.native.pages import PAGE_TOKENS, PagePool


@dataclass(slots=True, weakref_slot=True, eq=False)
class Node:
    """Tokens and the pages that hold them, by kind of group; none of a kind that was given up. A root has neither."""

    tokens: tuple[int, ...] = ()
    parent: Node | None = None
    pages: list[Pages] = field(default_factory=lambda: [()] * len(KINDS))
    children: dict[int, list[Node]] = field(default_factory=dict)  # by their first token


class Match(NamedTuple):
    """How much of a prompt is there.

    root      where the prompt begins
    path      full nodes, in order, whose pages can be shared
    first     the first of them whose pages of window groups are there, as are those of all after it
    partial   a node whose first ``n_partial`` tokens go on from there, which has to be copied; None when there is none
    """

    root: Node
    path: list[Node]
    first: int
    partial: Node | None
    n_partial: int

    @property
    def node(self) -> Node:
        """The last full one; the root when there is none."""
        return self.path[-1] if self.path else self.root

    @property
    def n_tokens(self) -> int:
        """Tokens that need not be computed."""
        return len(self.path) * PAGE_TOKENS + self.n_partial


class PrefixTree:
    """Pages by namespace and tokens; the longest unused go first.

    The order of use has every node before its ancestors: using a node uses all that leads to it, but of window groups
    only the pages that come into sight. So what is oldest among the idle nodes has no children that are in use, and
    pages that have fallen out of every window are the first to go. ``n_evicted`` counts the pages that were given up.
    """

    def __init__(self, pool: PagePool, groups: PageGroups | None = None) -> None:
        self.n_evicted = 0
        self._pool = pool
        self._groups = groups or PageGroups()
        # A root lives as long as its children and the sequences that began there: adapters and scales come and go.
        self._roots: WeakValueDictionary[Hashable, Node] = WeakValueDictionary()
        self._by_use: OrderedDict[tuple[Node, int], None] = OrderedDict()  # and kind of group

    def __len__(self) -> int:
        """Pages it keeps."""
        return sum(len(node.pages[kind]) for node, kind in self._by_use)

    @property
    def n_namespaces(self) -> int:
        """Those that hold pages, or are about to."""
        return len(self._roots)

    def root(self, namespace: Hashable) -> Node:
        """Where the tokens of a namespace begin."""
        return self._roots.setdefault(namespace, Node())

    def match(self, namespace: Hashable, tokens: Sequence[int], limit: int) -> Match:
        """The longest known prefix of ``tokens``, at most ``limit`` of them. Counts as a use."""
        root = node = self.root(namespace)
        path = list[Node]()
        while True:
            begin = len(path) * PAGE_TOKENS
            child, n_same = _closest(node, tokens[begin : min(begin + PAGE_TOKENS, limit)])
            if child is None or n_same < PAGE_TOKENS:
                break
            node = child
            path.append(child)
        n_usable, first = self._usable(path)
        if child is None or n_usable < len(path) or len(child.pages[WINDOW]) < self._groups.n_window:
            child, n_same = None, 0
        match = Match(root, path[:n_usable], first, child, n_same)
        if child is not None:
            self._use(child)
        self.touch(match.node)
        return match

    def add(self, parent: Node, tokens: Sequence[int], pages: tuple[Pages, Pages]) -> Node:
        """Keep ``pages``, by kind, which hold ``tokens`` after ``parent``, as far as the tree lacks them; the node.

        Leaves that ``tokens`` goes on from are dropped. Fewer than 16 tokens are not added when a longer node is there.
        """
        chunk = tuple(tokens)
        siblings = parent.children.setdefault(chunk[0], [])
        node = next((sibling for sibling in siblings if sibling.tokens[: len(chunk)] == chunk), None)
        if node is None:
            node = Node(chunk, parent)
            siblings.append(node)
        if len(node.tokens) == len(chunk):
            self._keep(node, pages)
        for sibling in [s for s in siblings if s is not node and s.tokens == chunk[: len(s.tokens)]]:
            self._give_up(sibling, KINDS)
        return node

    def touch(self, node: Node | None) -> None:
        """A use of this node, and so of all that leads to it and comes into sight."""
        n_after = 0
        while node is not None and node.parent is not None:
            self._use(node, KINDS if n_after < self._groups.window_tokens + PAGE_TOKENS else (LASTING,))
            n_after += len(node.tokens)
            node = node.parent

    def evict(self, n: int) -> int:
        """Give ``n`` idle pages back, perhaps a few more, the longest unused first; returns how many."""
        oldest, n_found, n_before = [], 0, self._pool.n_used
        for node, kind in self._by_use:
            if n_found >= n:
                break
            if self._pool.is_idle(node.pages[kind][0]):
                oldest.append((node, kind))
                n_found += len(node.pages[kind])
        for node, kind in oldest:
            if node.pages[kind]:  # it may have gone with the other kind
                self._give_up(node, KINDS if kind == LASTING else (WINDOW,))
        n_freed = n_before - self._pool.n_used
        self.n_evicted += n_freed
        return n_freed

    def clear(self) -> None:
        """Give back everything that is idle."""
        self.evict(len(self))

    def prune(self, node: Node) -> None:
        """Forget it, and what leads to it, unless something else needs them."""
        while node.parent is not None and not node.children and not any(node.pages):
            siblings = node.parent.children[node.tokens[0]]
            siblings.remove(node)
            if not siblings:
                del node.parent.children[node.tokens[0]]
            node = node.parent

    def _usable(self, path: Sequence[Node]) -> tuple[int, int]:
        """How many of these nodes can be gone on from, and the first whose pages of window groups are then needed."""
        if self._groups.n_window == 0:
            return len(path), 0
        n_usable = first = whole_from = 0
        for n, node in enumerate(path, start=1):
            if not node.pages[WINDOW]:
                whole_from = n
            if whole_from <= self._groups.first_seen(n * PAGE_TOKENS):
                n_usable, first = n, max(whole_from, self._groups.first_held(n * PAGE_TOKENS))
        return n_usable, first

    def _use(self, node: Node, kinds: Sequence[int] = KINDS) -> None:
        for kind in kinds:
            if node.pages[kind]:
                self._by_use.move_to_end((node, kind))

    def _keep(self, node: Node, pages: tuple[Pages, Pages]) -> None:
        for kind in KINDS:
            if pages[kind] and not node.pages[kind]:
                node.pages[kind] = pages[kind]
                self._by_use[node, kind] = None
                self._pool.keep(pages[kind])

    def _give_up(self, node: Node, kinds: Sequence[int]) -> None:
        assert LASTING not in kinds or not node.children
        for kind in kinds:
            if node.pages[kind]:
                del self._by_use[node, kind]
                self._pool.drop(node.pages[kind])
                node.pages[kind] = ()
        self.prune(node)


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
