"""The tree finds the longest prefix that it was given, never another's, and gives every page back."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from madang.native.pages import PAGE_TOKENS, PagePool
from madang.native.prefix_tree import Match, PrefixTree
from tests.native.test_page_pool import PAGE_BYTES, Store

LIMIT = 20
NAMESPACES = ("plain", "adapter")
# Few different pages, so that texts share them; the last one is cut anywhere.
CHUNKS = [tuple([kind] * (PAGE_TOKENS - 1) + [end]) for kind in (0, 1) for end in (0, 1)]
texts = st.builds(
    lambda chunks, cut: [token for chunk in chunks for token in chunk][: len(chunks) * PAGE_TOKENS - cut],
    st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=4),
    st.integers(0, PAGE_TOKENS - 1),
)


class TreeMachine(RuleBasedStateMachine):
    """Sequences that take what the tree has, compute the rest, publish it, and leave in any order."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(Store(), LIMIT * PAGE_BYTES)
        self.tree = PrefixTree(self.pool)
        self.content: dict[int, tuple[str, tuple[int, ...]]] = {}  # of each page: all tokens up to its end
        self.left: set[int] = set()
        self.sequences: dict[int, tuple[str, list[int], list[int]]] = {}

    @rule(target=running, namespace=st.sampled_from(NAMESPACES), tokens=texts)
    def begin(self, namespace: str, tokens: list[int]) -> int:
        number = len(self.sequences)
        match = self.tree.match(namespace, tokens, len(tokens))
        self.check(match, namespace, tokens)
        self.pool.share(match.pages)
        n_new = -(-len(tokens) // PAGE_TOKENS) - len(match.pages)
        new = self.pool.allocate(n_new)
        while new is None:
            if not self.tree.evict(n_new):
                self.pool.release(match.pages)
                self.left.add(number)
                self.sequences[number] = (namespace, [], [])
                return number
            new = self.pool.allocate(n_new)
        pages = match.pages + new
        node = match.node
        for index in range(len(match.pages), len(pages)):
            begin, end = index * PAGE_TOKENS, min((index + 1) * PAGE_TOKENS, len(tokens))
            self.content[pages[index]] = (namespace, tuple(tokens[:end]))
            if end - begin == PAGE_TOKENS:
                node = self.tree.add(node, tokens[begin:end], pages[index])
                if node.page != pages[index]:
                    self.pool.share((node.page,))
                    self.pool.release((pages[index],))
                    pages[index] = node.page
        self.sequences[number] = (namespace, tokens, pages)
        return number

    @rule(number=running)
    def end(self, number: int) -> None:
        if number in self.left:
            return
        self.left.add(number)
        namespace, tokens, pages = self.sequences[number]
        n_full, n_tail = divmod(len(tokens), PAGE_TOKENS)
        node = self.tree.match(namespace, tokens, n_full * PAGE_TOKENS).node
        if n_tail:
            self.tree.touch(self.tree.add(node, tokens[n_full * PAGE_TOKENS :], pages[-1]))
        self.pool.release(pages)
        match = self.tree.match(namespace, tokens, len(tokens))
        assert match.n_tokens == len(tokens)

    @rule(n=st.integers(1, 5))
    def evict(self, n: int) -> None:
        n_idle = self.pool.n_idle
        assert self.tree.evict(n) == min(n, n_idle)

    @rule(namespace=st.sampled_from(NAMESPACES), tokens=texts, limit=st.integers(0, 80))
    def look(self, namespace: str, tokens: list[int], limit: int) -> None:
        match = self.tree.match(namespace, tokens, limit)
        assert match.n_tokens <= limit
        self.check(match, namespace, tokens)

    @invariant()
    def what_runs_is_whole(self) -> None:
        for number, (namespace, tokens, pages) in self.sequences.items():
            if number in self.left:
                continue
            for index, page in enumerate(pages):
                expected = tokens[: (index + 1) * PAGE_TOKENS]
                assert self.content[page] == (namespace, tuple(expected))

    def check(self, match: Match, namespace: str, tokens: list[int]) -> None:
        """The pages hold what they are said to hold."""
        for index, page in enumerate(match.pages):
            assert self.content[page] == (namespace, tuple(tokens[: (index + 1) * PAGE_TOKENS]))
        if match.partial is not None:
            whose, content = self.content[match.partial.page]
            assert whose == namespace
            assert list(content[: match.n_tokens]) == tokens[: match.n_tokens]

    def teardown(self) -> None:
        for number in range(len(self.sequences)):
            self.end(number)
        self.tree.clear()
        assert len(self.tree) == self.pool.n_used == self.pool.n_idle == 0


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def tree_of(*texts: list[int]) -> tuple[PrefixTree, PagePool]:
    """A tree that has seen these, one after another."""
    pool = PagePool(Store(), 1000 * PAGE_BYTES)
    tree = PrefixTree(pool)
    for tokens in texts:
        match = tree.match("", tokens, len(tokens))
        node = match.node
        for begin in range(len(match.pages) * PAGE_TOKENS, len(tokens), PAGE_TOKENS):
            page = pool.allocate(1) or []
            node = tree.add(node, tokens[begin : begin + PAGE_TOKENS], page[0])
            pool.release(page)
        tree.touch(node)
    return tree, pool


def test_the_longest_of_several_is_found() -> None:
    common = list(range(20))
    tree, _ = tree_of([*common, 1, 1, 1], [*common, 2, 2, 2, 2], [*common, 3])
    for tokens in ([*common, 2, 2, 9], [*common, 1, 1, 1, 5], [*common[:18], 7]):
        known = [*common, 2, 2] if tokens[-1] == 9 else [*common, 1, 1, 1] if tokens[-1] == 5 else common[:18]
        assert tree.match("", tokens, 100).n_tokens == len(known)


def test_what_was_unused_longest_goes_first() -> None:
    first, second, third = ([kind] * 2 * PAGE_TOKENS for kind in range(3))
    tree, _ = tree_of(first, second, third)
    tree.match("", first, 100)
    assert tree.evict(3) == 3
    lengths = [tree.match("", tokens, 100).n_tokens for tokens in (first, second, third)]
    assert lengths == [2 * PAGE_TOKENS, 0, PAGE_TOKENS]


def test_a_longer_ending_takes_the_place_of_a_shorter_one() -> None:
    tree, pool = tree_of([1, 2, 3], [1, 2, 3, 4, 5], list(takewhile(lambda n: n <= PAGE_TOKENS, range(1, 99))))
    assert len(tree) == pool.n_used == 1
    tree, pool = tree_of([1, 2, 3, 4, 5], [1, 2])
    assert len(tree) == 1
    assert tree.match("", [1, 2, 3, 9], 10).n_tokens == 3


def test_a_namespace_that_holds_nothing_is_forgotten_unless_someone_is_about_to_fill_it() -> None:
    pool = PagePool(Store(), LIMIT * PAGE_BYTES)
    tree = PrefixTree(pool)
    for number in range(100):  # adapters that come and go, scales of every size
        tree.match(number, CHUNKS[0], PAGE_TOKENS)
    assert tree.n_namespaces == 0
    held = tree.match("held", CHUNKS[0], PAGE_TOKENS).node
    assert tree.root("held") is held
    page = pool.allocate(1)
    assert page is not None
    tree.add(held, CHUNKS[0], page[0])
    pool.release(page)
    del held
    assert tree.match("held", CHUNKS[0], PAGE_TOKENS).pages == page
    tree.clear()
    assert tree.n_namespaces == 0
