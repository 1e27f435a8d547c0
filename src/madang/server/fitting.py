"""Conversations that are longer than the context, for clients that ask to have them shortened instead of refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from madang.core.engine import Engine, TokenCounter
from madang.core.errors import InvalidRequest
from madang.core.events import Done, Event
from madang.core.messages import Message
from madang.core.request import Request

Overflow: TypeAlias = Literal["refuse", "drop_oldest"]

_ROOM_SHARE = 4  # of the context: what is left for an answer whose length nobody limits


class Fitted(NamedTuple):
    """A request whose prompt fits, and how long that was before."""

    request: Request
    received_tokens: int

    def told(self, event: Event) -> Event:
        """The same event; a Done says what was dropped."""
        if not isinstance(event, Done):
            return event
        dropped_tokens = self.received_tokens - event.ledger.kept_tokens
        ledger = replace(event.ledger, received_tokens=self.received_tokens, dropped_tokens=dropped_tokens)
        return replace(event, ledger=ledger)


def drop_oldest(engine: Engine, request: Request) -> Fitted:
    """Without the oldest exchanges that do not fit: each is what a user said and all up to the next time.

    System messages and the last exchange stay; if they alone do not fit, the engine refuses them. Raises InvalidRequest
    for a raw prompt, and for an engine that cannot count.
    """
    if request.prompt is not None:
        raise InvalidRequest("Only a conversation has an oldest part to drop.", param="context_overflow")
    if not isinstance(engine, TokenCounter):
        raise InvalidRequest(f"The {engine.info.engine} engine does not count tokens.", param="context_overflow")
    n_ctx = engine.info.context_tokens if request.context_tokens is None else request.context_tokens
    most = max(n_ctx // _ROOM_SHARE, 1)
    limit = n_ctx - max(min(most if request.max_tokens is None else request.max_tokens, n_ctx // 2), 1)
    received_tokens = engine.count_tokens(request)
    if received_tokens <= limit:
        return Fitted(request, received_tokens)
    starts = _exchanges(request.messages)
    few, many = 0, max(len(starts) - 1, 0)  # how many to drop: fewer than the smallest number that suffices, and that
    while few + 1 < many:
        middle = (few + many) // 2
        if engine.count_tokens(_without(request, starts, middle)) <= limit:
            many = middle
        else:
            few = middle
    return Fitted(_without(request, starts, many), received_tokens)


def _exchanges(messages: Sequence[Message]) -> list[int]:
    """Where each begins."""
    return [i for i, message in enumerate(messages) if message.role == "user"]


def _without(request: Request, starts: Sequence[int], n_dropped: int) -> Request:
    if n_dropped == 0:
        return request
    kept = tuple(
        message for i, message in enumerate(request.messages) if message.role == "system" or i >= starts[n_dropped]
    )
    return replace(request, messages=kept)
