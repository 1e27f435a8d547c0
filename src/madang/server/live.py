"""The requests that use a model at this moment, for whoever watches a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from madang.server.metrics import Generation
from madang.server.visit import Visit


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """One of them.

    state               waiting for a model to load or for a place, reading the prompt (or texts), or answering
    prompt_tokens       known once an answer is whole; None before
    completion_tokens   pieces of text so far, which are tokens but for those that make a character together
    tokens_s            pieces per second since the first; None before the second
    """

    id: str
    model: str
    path: str
    key: str
    started_at: datetime
    state: Literal["waiting", "reading", "answering"]
    prompt_tokens: int | None
    completion_tokens: int
    tokens_s: float | None


def live_requests(visits: Iterable[Visit]) -> list[LiveRequest]:
    """Those that hold a model or wait for one, the oldest first. In the loop that runs them."""
    live = [_request(visit) for visit in visits if visit.n_leases > 0 and visit.model is not None]
    return sorted(live, key=lambda one: (one.started_at, one.id))


def _request(visit: Visit) -> LiveRequest:
    generations = visit.generations
    rates = [one.pieces_per_s for one in generations if one.pieces_per_s is not None and one.done is None]
    known = [one.done.usage.prompt_tokens for one in generations if one.done is not None]
    return LiveRequest(
        id=visit.request_id,
        model=visit.model or "",
        path=visit.path,
        key=visit.key_name,
        started_at=visit.started_at,
        state=_state(visit, generations),
        prompt_tokens=max(known, default=None),
        completion_tokens=sum(one.n_pieces for one in generations),
        tokens_s=sum(rates) if rates else None,
    )


def _state(visit: Visit, generations: Iterable[Generation]) -> Literal["waiting", "reading", "answering"]:
    if any(one.n_pieces for one in generations):
        return "answering"
    return "reading" if visit.is_placed or any(one.is_begun for one in generations) else "waiting"
