"""Conversations that are longer than the context, for clients that ask to have them shortened instead of refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from madang.chat import ContextPolicy, Fitted, drop_oldest, summarise
from madang.core.engine import Engine
from madang.core.events import Completion, Event, collect
from madang.core.request import Request
from madang.server.bridge import events, in_thread
from madang.server.history import caller
from madang.server.visit import VISIT


@dataclass(frozen=True, slots=True)
class Memory:
    """Summaries by digest, and how one is kept, without waiting."""

    known: Mapping[str, str]
    keep: Callable[[str, str], None]


async def fitted_to(
    engine: Engine, request: Request, policy: ContextPolicy, memory: Memory | None = None
) -> Fitted | None:
    """The request as its policy lets it be shortened; None for one that is to be refused when it is too long.

    A summary that has to be made first is asked of the same engine. Raises InvalidRequest for a raw prompt, and for an
    engine that cannot count; what generating raises.
    """
    match policy:
        case "strict":
            return None
        case "drop_oldest":
            return await in_thread(partial(drop_oldest, engine, request))
    return await _summarised(engine, request, _in_memory() if memory is None else memory)


async def summarise_ahead(engine: Engine, request: Request, memory: Memory) -> None:
    """Make the summary that the next turn of a conversation will need, if it will.

    Only of an engine that answers others meanwhile, and lets them go first.
    """
    if engine.info.max_concurrency > 1:
        await _summarised(engine, request, memory, ahead=True)


async def _summarised(engine: Engine, request: Request, memory: Memory, *, ahead: bool = False) -> Fitted:
    outcome = await in_thread(partial(summarise, engine, request, memory.known, ahead=ahead))
    if isinstance(outcome, Fitted):
        return outcome
    summary = (await whole(engine, outcome.ask)).text.strip()
    if summary:
        memory.keep(outcome.digest, summary)
    return outcome.fitted(summary)


async def whole(engine: Engine, request: Request) -> Completion:
    """One whole answer."""
    arrived: list[Event] = []
    async with aclosing(events(engine, request)) as stream:
        async for event in stream:
            arrived.append(event)
    return collect(arrived)


def _in_memory() -> Memory:
    visit = VISIT.get()
    if visit is None or visit.history is None:
        return Memory({}, lambda digest, text: None)
    owner = caller()
    return Memory(visit.history.summaries.of(owner), partial(visit.history.summaries.keep, owner))
