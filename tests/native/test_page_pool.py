"""Every reference to a page is counted, and in the end nothing is left."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from madang.native.pages import PAGE_TOKENS, PagePool, pages_for

PAGE_BYTES = 100


class Store:
    """Pages without content; the system refuses more than ``most``."""

    page_bytes = PAGE_BYTES

    def __init__(self, most: int = 10**9) -> None:
        self.n_pages = 0
        self._most = most

    def reserve_pages(self, n: int) -> None:
        if n > self._most:
            self.n_pages = self._most  # as much as there was
            raise MemoryError
        self.n_pages = max(self.n_pages, n)

    def copy_page(self, source: int, target: int) -> None:
        """There is nothing in them."""

    def write_page(self, page: int, data: object) -> None:
        """Nor is there after this."""


class PoolMachine(RuleBasedStateMachine):
    """A pool beside a model of it that counts by hand."""

    LIMIT = 12

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.pool = PagePool(self.store, self.LIMIT * PAGE_BYTES + PAGE_BYTES // 2)
        self.held: Counter[int] = Counter()
        self.kept: set[int] = set()

    @rule(n=st.integers(0, 6))
    def allocate(self, n: int) -> None:
        pages = self.pool.allocate(n)
        if pages is None:
            assert n > self.LIMIT - len(self.used())
            return
        assert len(set(pages)) == n
        assert not set(pages) & self.used()
        self.held.update(pages)

    @precondition(lambda self: self.used())
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        pages = data.draw(st.lists(st.sampled_from(sorted(self.used())), unique=True))
        self.pool.share(pages)
        self.held.update(pages)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(sorted(self.held)))
        self.pool.release((page,))
        self.held -= Counter((page,))

    @precondition(lambda self: set(self.held) - self.kept)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(sorted(set(self.held) - self.kept)))
        self.pool.keep((page,))
        self.kept.add(page)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(sorted(self.kept)))
        self.pool.drop((page,))
        self.kept.remove(page)

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.n_used == len(self.used())
        assert self.pool.n_idle == len(self.kept - set(self.held))
        assert self.pool.n_obtainable == self.LIMIT - len(set(self.held))
        assert self.store.n_pages <= self.LIMIT

    def used(self) -> set[int]:
        return set(self.held) | self.kept

    def teardown(self) -> None:
        for page in self.kept:
            self.pool.drop((page,))
        self.pool.release(self.held.elements())
        assert (self.pool.n_used, self.pool.n_idle) == (0, 0)
        pages = self.pool.allocate(self.LIMIT)
        assert sorted(pages or ()) == list(range(self.LIMIT))


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(("n_tokens", "n_pages"), [(0, 0), (1, 1), (PAGE_TOKENS, 1), (PAGE_TOKENS + 1, 2)])
def test_pages_for_tokens(n_tokens: int, n_pages: int) -> None:
    assert pages_for(n_tokens) == n_pages


def test_when_the_system_refuses_there_is_what_there_is() -> None:
    pool = PagePool(Store(most=5), 100 * PAGE_BYTES)
    assert pool.allocate(6) is None
    assert pool.limit_pages == pool.n_obtainable == 5
    assert len(pool.allocate(5) or ()) == 5
    assert pool.allocate(1) is None


def test_memory_is_taken_when_it_is_needed() -> None:
    store = Store()
    pool = PagePool(store, 100 * PAGE_BYTES)
    assert store.n_pages == 0
    pages = pool.allocate(3) or []
    assert store.n_pages == 3
    pool.release(pages)
    assert sorted(pool.allocate(3) or ()) == sorted(pages)
    assert store.n_pages == 3
