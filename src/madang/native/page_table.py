"""Which cache pages hold one sequence.

A column has the pages of 16 positions, one for each group of layers (hardware/kv_cache.py). Pages of window groups are
let go of when the next tokens cannot see them any more. Their numbers stay in the table: the core reads what lies there
now, whatever it is, and masks it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from madang.hardware import PageGroups

Pages = tuple[int, ...]
LASTING, WINDOW = KINDS = (0, 1)  # of groups
_FIRST_CAPACITY = 8


class PageTable:
    """The pages of a sequence that is computed.

    rows         [groups, columns and more], as the core takes it
    n_columns    those that there are
    first_held   the first column whose pages of window groups are held
    """

    def __init__(self, groups: PageGroups | None = None) -> None:
        self.groups = groups or PageGroups()
        self.rows: npt.NDArray[np.int32] = np.zeros((self.groups.n_groups, _FIRST_CAPACITY), np.int32)
        self.n_columns = 0
        self.first_held = 0

    @property
    def n_held(self) -> int:
        """Pages, of all groups."""
        return self.groups.held_pages(self.n_columns, self.first_held)

    def held(self) -> list[int]:
        """All of them, column by column."""
        columns = self.rows[:, : self.n_columns].T
        early, late = columns[: self.first_held, : self.groups.n_lasting], columns[self.first_held :]
        pages: list[int] = np.concatenate([early.ravel(), late.ravel()]).tolist()
        return pages

    def column(self, index: int) -> tuple[Pages, Pages]:
        """Its pages by kind of group."""
        pages = self.rows[:, index].tolist()
        return tuple(pages[: self.groups.n_lasting]), tuple(pages[self.groups.n_lasting :])

    def append(self, pages: Sequence[int]) -> None:
        """Whole columns: of each in turn the pages of lasting groups, then of each those of window groups.

        So the pages that a window has just left (at the end of what PagePool.allocate gives) go round in that window.
        """
        begin, end = self.n_columns, self.n_columns + len(pages) // self.groups.n_groups
        capacity = self.rows.shape[1]
        if end > capacity:
            more = np.zeros((self.groups.n_groups, max(end, capacity)), np.int32)
            self.rows = np.concatenate([self.rows, more], axis=1)
        lasting, window = np.split(np.array(pages, np.int32), [(end - begin) * self.groups.n_lasting])
        self.rows[: self.groups.n_lasting, begin:end] = lasting.reshape(end - begin, self.groups.n_lasting).T
        self.rows[self.groups.n_lasting :, begin:end] = window.reshape(end - begin, self.groups.n_window).T
        self.n_columns = end

    def replace(self, index: int, kind: int, pages: Pages) -> None:
        """Use others with the same content."""
        n_lasting = self.groups.n_lasting
        self.rows[slice(n_lasting) if kind == LASTING else slice(n_lasting, None), index] = pages

    def leave_behind(self, n_tokens: int) -> list[int]:
        """After so many tokens, hold no more than is needed; returns the pages that it does not hold any more."""
        begin, end = self.first_held, self.groups.first_held(n_tokens)
        if self.groups.n_window == 0 or end <= begin:
            return []
        self.first_held = end
        pages: list[int] = self.rows[self.groups.n_lasting :, begin:end].T.ravel().tolist()
        return pages

    def clear(self) -> list[int]:
        """Hold nothing; returns what it held."""
        pages = self.held()
        self.n_columns = self.first_held = 0
        return pages
