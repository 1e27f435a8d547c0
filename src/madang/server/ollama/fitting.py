"""``truncate``: leaving out the oldest turns of a conversation that does not fit, when a client asks for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from madang.core.engine import Engine, TokenCounter
from madang.core.events import Done
from madang.core.messages import Message
from madang.core.request import Request
from madang.server.ledger import ledger_of

ANSWER_SHARE: Final = 4  # of the context, a quarter is left for the answer


@dataclass(frozen=True, slots=True)
class Fitted:
    """A request that fits, as far as it can be made to; ``dropped_tokens`` and messages are what is missing of it."""

    request: Request
    dropped_tokens: int = 0
    dropped_messages: int = 0
    warnings: tuple[str, ...] = ()

    def ledger(self, done: Done, warnings: tuple[str, ...]) -> dict[str, Any]:
        """What the answer says of the context: counted from what the client sent, not from what was left of it."""
        ledger = ledger_of(done, (*warnings, *self.warnings))
        if self.dropped_messages:
            ledger["received_tokens"] = done.ledger.received_tokens + self.dropped_tokens
            ledger["dropped_tokens"] = done.ledger.dropped_tokens + self.dropped_tokens
            ledger["dropped_messages"] = self.dropped_messages
        return ledger


def fit(engine: Engine, request: Request, *, truncate: bool) -> Fitted:
    """The request within the engine's context.

    A context larger than the engine's is its own, with a warning. What is too long stays as it is without ``truncate``,
    for the engine to refuse with numbers. System messages and the last turn are never left out.
    """
    request, warnings = _within(request, engine.info.context_tokens)
    if not truncate or request.prompt is not None or not isinstance(engine, TokenCounter):
        return Fitted(request, warnings=warnings)
    n_ctx = engine.info.context_tokens if request.context_tokens is None else request.context_tokens
    share = n_ctx // ANSWER_SHARE
    most = n_ctx - max(share if request.max_tokens is None else min(request.max_tokens, share), 1)
    received = engine.count_tokens(request)
    if received <= most:
        return Fitted(request, warnings=warnings)
    beginning, turns = _turns(request.messages)
    low, high = 0, len(turns) - 1  # the fewest turns to leave out lie between them
    while low < high:
        middle = (low + high) // 2
        if engine.count_tokens(_without(request, beginning, turns[middle:])) <= most:
            high = middle
        else:
            low = middle + 1
    fitted = _without(request, beginning, turns[low:])
    n_messages = len(request.messages) - len(fitted.messages)
    return Fitted(fitted, received - engine.count_tokens(fitted), n_messages, warnings)


def _within(request: Request, n_ctx: int) -> tuple[Request, tuple[str, ...]]:
    if request.context_tokens is None or request.context_tokens <= n_ctx:
        return request, ()
    warning = f"num_ctx is {request.context_tokens}, but the model was opened with {n_ctx}, which holds."
    return replace(request, context_tokens=None), (warning,)


def _turns(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """System messages at the beginning, then turns: a user's message with everything up to the next one."""
    n_system = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    turns: list[list[Message]] = []
    for message in messages[n_system:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return messages[:n_system], [tuple(turn) for turn in turns] or [()]


def _without(request: Request, beginning: tuple[Message, ...], turns: list[tuple[Message, ...]]) -> Request:
    kept = tuple(message for turn in turns for message in turn)
    return replace(request, messages=(*beginning, *kept))
