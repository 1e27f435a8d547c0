"""Sequences that share pages, go on, part and are forgotten always have what they computed in their pages."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from madang.hardware import PageGroups
from madang.native.cache import PagedCache, SavedPages
from madang.native.pages import PAGE_TOKENS, pages_for
from madang.native.sequence import CachedSequence, Namespace
from tests.native.test_page_pool import PAGE_BYTES, Store

STEP = 24
# Few different columns, so that texts share them; the last one is cut anywhere.
CHUNKS = [tuple([kind] * (PAGE_TOKENS - 1) + [end]) for kind in (0, 1) for end in (0, 1)]
texts = st.builds(
    lambda chunks, cut: [token for chunk in chunks for token in chunk][: len(chunks) * PAGE_TOKENS - cut],
    st.lists(st.sampled_from(CHUNKS), min_size=1, max_size=7),
    st.integers(0, PAGE_TOKENS - 1),
)
namespaces = st.sampled_from((Namespace(), Namespace(adapter=1, adapter_scale=0.5)))


class Recorder(Store):
    """Pages whose content is all that led to it: namespace, group of layers, tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[int, tuple[Namespace, int, tuple[int, ...]]] = {}

    def copy_page(self, source: int, target: int) -> None:
        self.content[target] = self.content[source]

    def write_page(self, page: int, data: Any) -> None:
        self.content[page] = data


class CacheMachine(RuleBasedStateMachine):
    """A cache of pages for up to 30 columns."""

    groups = PageGroups()

    def __init__(self) -> None:
        super().__init__()
        self.store = Recorder()
        self.cache = PagedCache(self.store, 30 * self.groups.n_groups * PAGE_BYTES, self.groups, STEP)
        self.running: list[CachedSequence] = []
        self.saved: list[tuple[Namespace, list[int], SavedPages]] = []

    @precondition(lambda self: len(self.running) < 4)
    @rule(namespace=namespaces, tokens=texts)
    def begin(self, namespace: Namespace, tokens: list[int]) -> None:
        sequence = CachedSequence(list(tokens), len(tokens), None, namespace=namespace)  # type: ignore[arg-type]
        self.cache.attach(sequence)
        assert sequence.n_computed < len(tokens)
        self.running.append(sequence)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), n=st.integers(1, STEP), n_guesses=st.integers(0, 5))
    def go_on(self, data: st.DataObject, n: int, n_guesses: int) -> None:
        """Compute some tokens, and wrong guesses after them."""
        sequence = data.draw(st.sampled_from(self.running))
        n = min(n, sequence.n_left)
        n_guesses = min(n_guesses, STEP - n)
        if n == 0 or not self.cache.grow(sequence, n):
            return
        if not self.cache.grow(sequence, n + n_guesses):
            n_guesses = 0
        assert sequence.pages.n_held <= self.cache.most_pages(sequence.pages.n_columns * PAGE_TOKENS)
        known = sequence.tokens[: sequence.n_computed + n] + [9] * n_guesses
        self.compute(sequence, known)
        sequence.n_computed += n
        self.cache.publish(sequence)

    def compute(self, sequence: CachedSequence, known: list[int]) -> None:
        """Fill its pages up to the end of ``known``."""
        for index in range(sequence.n_computed // PAGE_TOKENS, pages_for(len(known))):
            for group, page in enumerate(sum(sequence.pages.column(index), ())):
                self.store.content[page] = (sequence.namespace, group, tuple(known[: (index + 1) * PAGE_TOKENS]))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), more=texts)
    def learn(self, data: st.DataObject, more: list[int]) -> None:
        data.draw(st.sampled_from(self.running)).tokens.extend(more)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), keep_tail=st.booleans())
    def end(self, data: st.DataObject, keep_tail: bool) -> None:
        sequence = data.draw(st.sampled_from(self.running))
        known, namespace = sequence.tokens[: sequence.n_computed], sequence.namespace
        self.running.remove(sequence)
        self.cache.detach(sequence, keep_tail=keep_tail)
        self.check_known(namespace, known, keep_tail=keep_tail)

    def check_known(self, namespace: Namespace, tokens: list[int], *, keep_tail: bool = True) -> None:
        """They are in the tree; but a longer column that has lost its window may stand in the place of the tail."""
        n_found = self.cache.tree.match(namespace, tokens, len(tokens)).n_tokens
        has_tail = keep_tail and self.groups.n_window == 0
        assert n_found >= (len(tokens) if has_tail else len(tokens) // PAGE_TOKENS * PAGE_TOKENS)

    @rule(n=st.integers(1, 20))
    def make_room(self, n: int) -> None:
        n_idle = self.cache.pool.n_idle
        n_freed = self.cache.tree.evict(n)
        assert min(n, n_idle) <= n_freed < n + 2 * self.groups.n_groups

    @precondition(lambda self: any(s.n_left == 0 for s in self.running))
    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from([s for s in self.running if s.n_left == 0]))
        pages = sequence.pages
        contents: list[Any] = [self.store.content[page] for page in pages.held()]
        self.saved.append((sequence.namespace, list(sequence.tokens), SavedPages(pages.first_held, contents)))

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        namespace, tokens, saved = data.draw(st.sampled_from(self.saved))
        if len(saved.contents) <= self.cache.pool.n_obtainable:
            self.cache.fill(namespace, tokens, saved)
            self.check_known(namespace, tokens)

    @invariant()
    def what_is_seen_is_right(self) -> None:
        for sequence in self.running:
            n, first_seen = sequence.n_computed, self.groups.first_seen(sequence.n_computed)
            assert sequence.pages.first_held <= first_seen or self.groups.n_window == 0
            for index in range(pages_for(n)):
                end = min((index + 1) * PAGE_TOKENS, n)
                for group, page in enumerate(sum(sequence.pages.column(index), ())):
                    if group < self.groups.n_lasting or index >= first_seen:
                        namespace, whose, tokens = self.store.content[page]
                        assert (namespace, whose) == (sequence.namespace, group)
                        assert list(tokens[:end]) == sequence.tokens[:end]

    @invariant()
    def pages_are_counted(self) -> None:
        pool = self.cache.pool
        held = {page for sequence in self.running for page in sequence.pages.held()}
        assert pool.n_used - pool.n_idle == len(held)
        assert pool.n_idle <= len(self.cache.tree) <= pool.n_used

    def teardown(self) -> None:
        for sequence in self.running:
            self.cache.detach(sequence)
        self.cache.tree.clear()
        assert len(self.cache.tree) == self.cache.pool.n_used == self.cache.pool.n_idle == 0


class MixedMachine(CacheMachine):
    groups = PageGroups((0, 1, 2), 1, 2, 20)


class WindowsOnlyMachine(CacheMachine):
    groups = PageGroups((0,), 0, 1, 40)


TestPlain, TestMixed, TestWindowsOnly = CacheMachine.TestCase, MixedMachine.TestCase, WindowsOnlyMachine.TestCase
for case in (TestPlain, TestMixed, TestWindowsOnly):
    case.settings = settings(max_examples=60, stateful_step_count=40)
