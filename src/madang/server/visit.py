"""One HTTP request as everything beside its route sees it: who asks, under which number, for which model.

The outermost layer makes it, inner ones fill it in; it is found through a context variable, so that the translations
between wire and engine need not hand it on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from madang.server.history import History
    from madang.server.keys import ApiKey
    from madang.server.limits import Admission
    from madang.server.metrics import Generation, ServerMetrics


@dataclass(slots=True, kw_only=True)
class Visit:
    """``key`` is None for callers of a server without keys; ``model`` is the canonical reference, once it is known.

    history       what the server keeps; None where there is none
    span          of the request, where traces are on
    started_at    when the request came; ``arrived_s`` is the same on :func:`time.perf_counter`
    n_leases      models that it holds or waits for: while there are any, it is one of those that the monitor shows
    generations   of text, that it has begun so far
    is_placed     whether a model works on what is no text, as vectors
    """

    request_id: str
    metrics: ServerMetrics
    admission: Admission
    path: str = ""
    history: History | None = None
    allows_files: bool = False
    key: ApiKey | None = None
    model: str | None = None
    span: Span | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    arrived_s: float = field(default_factory=perf_counter)
    n_leases: int = 0
    generations: list[Generation] = field(default_factory=list)
    is_placed: bool = False

    @property
    def key_name(self) -> str:
        """For logs and metrics; empty when no key was needed."""
        return "" if self.key is None else self.key.name


VISIT: ContextVar[Visit | None] = ContextVar("madang_visit", default=None)
