"""How long work on bytes tells how far it is; drawing that is someone else's."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how work goes on. May be called from another thread, one call at a time.

    Work that turns out to be done already causes no call at all.
    """

    def started(self, total_bytes: int | None) -> None:
        """Called once, before bytes come; None when nobody can say how many."""

    def advanced(self, n_bytes: int) -> None:
        """So many more bytes are done, resumed ones included; negative when a part had to be started again."""

    def finished(self) -> None:
        """All is done and in its place. Work that fails raises instead."""


class SilentProgress:
    """For callers that do not watch."""

    def started(self, total_bytes: int | None) -> None:
        """Ignored."""

    def advanced(self, n_bytes: int) -> None:
        """Ignored."""

    def finished(self) -> None:
        """Ignored."""
