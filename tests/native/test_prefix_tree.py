"""The tree finds the longest prefix that it was given, and gives up what was unused longest."""

from __future__ import annotations

from itertools import takewhile

import pytest

from madang.hardware import PageGroups
from madang.native.page_table import LASTING, WINDOW
from madang.native.pages import PAGE_TOKENS, PagePool
from madang.native.prefix_tree import PrefixTree
from tests.native.test_page_pool import PAGE_BYTES, Store


def tree_of(*texts: list[int], groups: PageGroups | None = None) -> tuple[PrefixTree, PagePool]:
    """A tree that has seen these, one after another."""
    groups = groups or PageGroups()
    pool = PagePool(Store(), 1000 * PAGE_BYTES)
    tree = PrefixTree(pool, groups)
    for tokens in texts:
        match = tree.match("", tokens, len(tokens))
        node = match.node
        for begin in range(len(match.path) * PAGE_TOKENS, len(tokens), PAGE_TOKENS):
            pages = pool.allocate(groups.n_groups) or []
            column = tuple(pages[: groups.n_lasting]), tuple(pages[groups.n_lasting :])
            node = tree.add(node, tokens[begin : begin + PAGE_TOKENS], column)
            pool.release(pages)
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
    pool = PagePool(Store(), 20 * PAGE_BYTES)
    tree = PrefixTree(pool)
    tokens = list(range(PAGE_TOKENS))
    for number in range(100):  # adapters that come and go, scales of every size
        tree.match(number, tokens, PAGE_TOKENS)
    assert tree.n_namespaces == 0
    held = tree.match("held", tokens, PAGE_TOKENS).node
    assert tree.root("held") is held
    page = pool.allocate(1)
    assert page is not None
    tree.add(held, tokens, (tuple(page), ()))
    pool.release(page)
    del held
    assert [node.pages[LASTING] for node in tree.match("held", tokens, PAGE_TOKENS).path] == [tuple(page)]
    tree.clear()
    assert tree.n_namespaces == 0


# ---- with windows of 40 tokens: after 10 columns, columns from the 7th on are seen

MIXED = PageGroups((0, 1, 2), 1, 2, 40)
WINDOWS_ONLY = PageGroups((0,), 0, 1, 40)
LONG = list(range(10 * PAGE_TOKENS))


@pytest.mark.parametrize("groups", [MIXED, WINDOWS_ONLY])
def test_pages_beyond_the_window_go_first_and_are_not_missed(groups: PageGroups) -> None:
    tree, pool = tree_of(LONG, groups=groups)
    assert tree.evict(6 * groups.n_window) == 6 * groups.n_window
    match = tree.match("", [*LONG, 1], 999)
    assert (match.n_tokens, match.first) == (len(LONG), 6)
    assert all(node.pages[WINDOW] for node in match.path[6:])
    assert not any(node.pages[WINDOW] for node in match.path[:6])
    assert pool.n_used == len(tree)
    del match
    tree.clear()
    assert pool.n_used == tree.n_namespaces == 0


@pytest.mark.parametrize("groups", [MIXED, WINDOWS_ONLY])
def test_what_cannot_be_gone_on_from_is_no_match(groups: PageGroups) -> None:
    tree, _ = tree_of(LONG, groups=groups)
    tree.evict(6 * groups.n_window)  # there are columns 6 to 9
    for n, found in ((160, 160), (159, 159), (144, 144), (143, 0), (100, 0), (5, 0)):
        assert tree.match("", LONG[:n], n).n_tokens == found
    tree, _ = tree_of(LONG, groups=groups)
    for n in (160, 143, 100, 5):  # nothing was given up
        assert tree.match("", LONG[:n], n).n_tokens == n


def test_pages_that_were_given_up_come_back() -> None:
    tree, pool = tree_of(LONG, groups=MIXED)
    tree.evict(6 * 2)
    node = tree.root("")
    for begin in range(0, len(LONG), PAGE_TOKENS):
        pages = pool.allocate(3) or []
        node = tree.add(node, LONG[begin : begin + PAGE_TOKENS], (tuple(pages[:1]), tuple(pages[1:])))
        pool.release(pages)
    assert pool.n_used == len(tree) == 30
    assert tree.match("", LONG[:100], 100).n_tokens == 100
