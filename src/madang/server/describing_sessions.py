"""Titles, tags and summaries of sessions, made by their own model while nobody waits for it."""

from __future__ import annotations

from functools import partial

from madang.chat import Description, ask_for_description, read_description
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.runtime.abilities import as_engine
from madang.server.bridge import leased
from madang.server.deriving import meant, prepared
from madang.server.exchanges import Exchange
from madang.server.fitting import whole
from madang.server.state import ServerState


async def describe_session(state: ServerState, model: str, request: Request, exchange: Exchange) -> None:
    """Ask what the conversation is about, and keep what can be taken of the answer; ``request`` has all of it.

    Only an engine that answers others meanwhile is asked, and lets them go first. Raises what generating raises.
    """
    reference, preset = meant(state.store, model)
    async with leased(state.pool, reference) as loaded:
        engine = as_engine(loaded)
        if engine.info.max_concurrency <= 1:
            return
        [request] = await prepared(state.store, engine, preset, [request])
        try:
            answer = await whole(engine, ask_for_description(request))
            description = read_description(answer.text, request.messages)
        except InvalidRequest:  # an engine that holds no answer to a form is not asked again and again
            description = Description()
    history, owner, session = exchange.history, exchange.owner, exchange.session
    history.journal.add(partial(history.sessions.describe, owner, session, description, exchange.n_questions))
