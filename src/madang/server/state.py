"""What all routes share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from madang import __version__
from madang.core.engine import Loaded
from madang.core.settings import Settings
from madang.models import Store
from madang.server.limits import BODY_BYTES, BODY_IDLE_S, BODY_S, STALL_S, WAITING
from madang.storage.database import WRITE_PATIENCE_S

if TYPE_CHECKING:
    from madang.server.security import SecurityConfig
    from madang.server.tracing import Traces


class ModelPool(Protocol):
    """Models in memory, loaded when they are asked for. Every method may be called from any thread."""

    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> AbstractContextManager[Loaded]:
        """The model, loaded if need be; it stays in memory at least until the block is left."""

    def unload(self, reference: str) -> bool:
        """Whether it was there."""

    def resident(self) -> Sequence[Any]:
        """What is in memory now."""

    def close(self) -> None:
        """Unload everything."""


@runtime_checkable
class ResidentPool(ModelPool, Protocol):
    """A pool that knows without waiting what is in memory."""

    def lease_resident(
        self, reference: str, *, keep_alive_s: float | None = None
    ) -> AbstractContextManager[Loaded] | None:
        """A lease that is to be entered now, and is at once; None for a model that has to be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """Made once, before the first request; what changes is inside its parts.

    security     who is let in; None is the keys below home, on 127.0.0.1
    waiting      the most generations that wait for a place
    body_bytes   the most that a request may have, uploads apart
    body_idle_s  how long a client may take for the next piece of a body
    body_s       the same for a whole body
    stall_s      how long a client may leave an answer unread
    traces       where spans of requests go; None is nowhere
    database_s   how long a message or run waits for other programs that hold the database, before it is tried later
    """

    pool: ModelPool
    store: Store
    settings: Settings
    security: SecurityConfig | None = None
    waiting: int = WAITING
    body_bytes: int = BODY_BYTES
    body_idle_s: float = BODY_IDLE_S
    body_s: float = BODY_S
    stall_s: float = STALL_S
    database_s: float = WRITE_PATIENCE_S
    traces: Traces | None = None
    version: str = __version__
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
