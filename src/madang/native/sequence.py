"""The scheduler's vocabulary: a sequence in the cache, the work that it is computed for, its share of a step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from madang import _core
from madang.core.request import PRIORITIES, Priority
from madang.native.page_table import PageTable
from madang.native.prefix_tree import Node

_arrivals = itertools.count()


class Namespace(NamedTuple):
    """What keys and values depend on beside the tokens; a tree of cached prefixes for each.

    adapter   id of the LoRA adapter in the core, -1 without one; ``adapter_scale`` multiplies what it adds
    is_long   the model's second set of rotary frequencies is used
    """

    adapter: int = -1
    adapter_scale: float = 0.0
    is_long: bool = False


PLAIN = Namespace()


class Work(Protocol):
    """What a sequence is computed for: an answer, a score, rows of logits.

    The scheduler calls these, in this order and from its own thread: ``begins`` when the prompt starts to be read,
    ``row`` for each row of logits, in the order of positions, ``ends`` once; or ``fails``. What any of them raises,
    ``fails`` is told, and no other sequence. After each step that it had a share in comes ``hand_over``.
    """

    @property
    def is_done(self) -> bool:
        """Whether no further row is wanted."""

    @property
    def chooses(self) -> bool:
        """Whether it chooses tokens, so that they may be guessed ahead."""

    @property
    def forced(self) -> Sequence[int]:
        """Tokens that it chooses next whatever their logits are. They are computed ahead, and drawn nevertheless."""

    def begins(self, n_cached: int) -> None:
        """Of the prompt, so many tokens are in the cache already."""

    def row(self, decoder: _core.Decoder, row: int) -> int | None:
        """The logits after one more token are in ``row``. Returns the token that it chooses, if it does."""

    def ends(self, sequence: CachedSequence, decoder: _core.Decoder) -> None:
        """Everything has been computed, and is still in the pages of ``sequence``."""

    def hand_over(self) -> None:
        """Everyone's rows have been taken: wake who waits, now that this keeps no other from its row. Never raises."""

    def fails(self, error: Exception) -> None:
        """It cannot go on."""


@dataclass(eq=False)
class CachedSequence:
    """Tokens, and the cache pages of those that have been computed.

    tokens       all that is known: the prompt, then what was chosen
    first_row    position of the next token whose logits the work wants; it wants all after it
    n_computed   tokens whose keys and values are in the pages
    n_drafted    guessed tokens that were computed ahead, and of them, ``n_accepted`` that came true
    """

    tokens: list[int]
    first_row: int
    work: Work
    priority: Priority = "chat"
    namespace: Namespace = PLAIN
    arrival: int = field(default_factory=lambda: next(_arrivals))
    n_computed: int = 0
    pages: PageTable = field(default_factory=PageTable)
    node: Node | None = None  # of the last column that the prefix tree has
    n_published: int = 0  # columns that it has
    is_begun: bool = False
    n_drafted: int = 0
    n_accepted: int = 0
    waits_for: CachedSequence | None = None  # it computes the same pages at the moment
    waits_until: int = 0  # it has computed so many tokens

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller comes first: chats before background work, then by arrival."""
        return PRIORITIES.index(self.priority), self.arrival

    @property
    def n_left(self) -> int:
        """Tokens that are known and not computed."""
        return len(self.tokens) - self.n_computed

    @property
    def is_decoding(self) -> bool:
        """Whether only the newest token is to be computed."""
        return self.n_left == 1 and self.n_computed >= self.first_row

    def forget(self) -> list[int]:
        """Nothing is computed any more; rows that were taken are not wanted again. Returns the pages that it held."""
        self.n_computed = self.n_published = 0
        self.node = None
        return self.pages.clear()


class Share(NamedTuple):
    """What one sequence computes in a step: its next ``n_tokens``, then ``drafts``, all guessed but ``n_forced``."""

    sequence: CachedSequence
    n_tokens: int
    drafts: list[int]
    n_forced: int = 0

    @property
    def n_rows(self) -> int:
        """Rows of logits that come out of it."""
        sequence = self.sequence
        end = sequence.n_computed + self.n_tokens
        return max(end - max(sequence.first_row, sequence.n_computed), 0) + len(self.drafts)
