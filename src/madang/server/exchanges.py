"""Questions and answers that belong to a session: what was said before goes in front, what is said now is kept.

Nothing of it holds up an answer but the one look at what was said before. When the database cannot be read, the
question is answered without; when it cannot be written, the answer says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from pydantic import ConfigDict

from madang.chat import ContextPolicy, Turn, chained, is_due
from madang.chat.sessions import new_turn_id
from madang.core.errors import InvalidRequest, MadangError, NotFound, StorageError
from madang.core.events import Done, Event, ReasoningDelta, TextDelta, ToolCallDelta
from madang.core.messages import Message, ToolCall
from madang.server.bridge import in_thread
from madang.server.fitting import Memory
from madang.server.history import History, caller
from madang.server.visit import VISIT
from madang.server.wire import WireObject
from madang.storage.runs import facts_of

Prepare: TypeAlias = Callable[[Message], Awaitable[None]]

ROOM_TOKENS = 600  # of the context, for the question what a conversation is about and its answer
SETTLE_S = 2.0  # that a question waits for the answer before it to be written


class WireSession(WireObject):
    """What a request says of its session, and of the documents that it is answered from.

    session     where the exchange is kept, and where what was said before is
    parent      the message that it follows: one in the middle begins a branch, "" is before the first; unset: the last
    collection  one or more, to answer from; unset is what the session's persona has, an empty list is none
    document    only one of their documents: its id, title or source
    speaker     only what this person said in it
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    session: str | None = None
    parent: str | None = None
    collection: str | list[str] | None = None
    document: str | None = None
    speaker: str | None = None


@dataclass(slots=True)
class Exchange:
    """One question and its answer, in a session.

    before      what the model is told before the question
    memory      summaries of the session
    described   how many questions it had when it was described, or 0
    asked       the question's turns; empty when an earlier question is answered again
    collections   names of those that the session's persona looks into
    more        what else is told of the answer, when it is over
    """

    history: History
    owner: str
    session: str
    before: tuple[Message, ...] = ()
    parent: str | None = None
    policy: ContextPolicy = "strict"
    memory: Memory | None = None
    described: int = 0
    asked: list[Turn] = field(default_factory=list)
    model: str = ""
    warnings: list[str] = field(default_factory=list)
    collections: tuple[str, ...] = ()
    more: Callable[[], dict[str, Any]] = dict
    _answer_id: str = field(default_factory=new_turn_id)
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)
    _done: Done | None = None
    _is_begun: bool = False

    async def kept(
        self, stream: AsyncGenerator[tuple[int, Event], None], prepare: Prepare | None = None
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """The same events. What was said is kept however the stream ends, but nothing of a request that is refused.

        After a whole answer, ``prepare`` is given it, if there is something to do before the next turn.
        """
        is_refused = False
        try:
            async with aclosing(stream):
                async for number, event in stream:
                    self._saw(event)
                    yield number, event
            if prepare is not None and (self.is_long or self.is_undescribed):
                answer = Message("assistant", "".join(self._text), tool_calls=tuple(self._calls))
                self.history.background.start(self.session, partial(prepare, answer))
        except MadangError:
            is_refused = not self._is_begun
            raise
        finally:
            if not is_refused:
                self._end()

    def facts(self) -> dict[str, Any]:
        """What the answer says of its session."""
        more = self.more()
        warnings = [*self.warnings, *more.pop("warnings", ())]
        if not warnings and self.history.trouble is not None:
            warnings.append(_not_kept(self.history.trouble))
        facts: dict[str, Any] = {"session": self.session, "message": self._answer_id, **more}
        if self.asked:
            facts["question"] = self.asked[-1].id
        return facts | ({"warnings": warnings} if warnings else {})

    @property
    def n_questions(self) -> int:
        """Of the conversation so far."""
        roles = [message.role for message in self.before] + [turn.message.role for turn in self.asked]
        return roles.count("user")

    @property
    def is_undescribed(self) -> bool:
        """Whether its model should be asked what it is about, and can be shown the whole of it."""
        if self._done is None or not is_due(self.n_questions, self.described):
            return False
        ledger = self._done.ledger
        room = ledger.n_ctx - ledger.kept_tokens - ledger.generated_tokens
        return ledger.dropped_tokens == 0 and room >= ROOM_TOKENS

    @property
    def is_long(self) -> bool:
        """Whether its context is filled so far that the next turn may want a summary."""
        if self.policy != "summarise" or self._done is None:
            return False
        ledger = self._done.ledger
        return ledger.kept_tokens + ledger.generated_tokens > ledger.n_ctx // 2

    def _saw(self, event: Event) -> None:
        if not self._is_begun:
            self._is_begun = True
            if self.asked:
                self._keep(self.asked)
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallDelta():
                self._calls.append(event.call)
            case Done():
                self._done = event

    def _end(self) -> None:
        turns = list(self.asked)
        if self._text or self._reasoning or self._calls or self._done is not None:
            parent = turns[-1].id if turns else self.parent
            turns.append(
                Turn(
                    id=self._answer_id,
                    message=Message("assistant", "".join(self._text), tool_calls=tuple(self._calls)),
                    parent=parent,
                    reasoning="".join(self._reasoning),
                    state="partial" if self._done is None else "whole",
                    model=self.model,
                    facts=self.more() | ({} if self._done is None else facts_of(self._done)),
                )
            )
        if turns:
            self._keep(turns)

    def _keep(self, turns: Sequence[Turn]) -> None:
        n_bytes = sum(4 * (len(turn.message.content) + len(turn.reasoning)) for turn in turns)
        self.history.journal.add(partial(self.history.sessions.append, self.owner, self.session, list(turns)), n_bytes)


async def begin_exchange(wire: WireSession | None, messages: Sequence[Message], model: str) -> Exchange | None:
    """The exchange that a request belongs to; None when it names no session.

    Without messages, the last question is answered again. Raises NotFound for a session or a message that are not the
    caller's, InvalidRequest when there is nothing to answer.
    """
    visit = VISIT.get()
    if wire is None or wire.session is None or visit is None or visit.history is None:
        if wire is not None and wire.session is None and wire.parent is not None:
            raise InvalidRequest("A parent is a message of a session; name the session.", param="madang.session")
        return None
    place = _Place(caller(), wire.session, wire.parent)
    return await in_thread(partial(_begun, visit.history, place, messages, model))


class _Place(NamedTuple):
    """Where an exchange belongs: see WireSession."""

    owner: str
    session: str
    parent: str | None


def _begun(history: History, place: _Place, messages: Sequence[Message], model: str) -> Exchange:
    history.journal.settle(SETTLE_S)
    owner = place.owner
    said = [message for message in messages if message.role != "system"]
    own = [message for message in messages if message.role == "system"]
    exchange = Exchange(history, owner, place.session, model=model)
    path: list[Turn] = []
    try:
        session = history.sessions.get(owner, place.session)
        path = [] if place.parent == "" else history.sessions.path(owner, place.session, place.parent)
        known = history.sessions.summaries(owner, place.session)
        if session.persona is not None:
            own = _as_persona(history, session.persona, exchange, own)
    except StorageError as error:
        if not said:
            raise
        exchange.warnings.append(f"{_not_kept(error.message)} What was said before is not known.")
    except NotFound:
        notice = history.database.notice
        if notice is None or not said:
            raise
        exchange.warnings.append(f"This session is not there. {notice} What was said before is not known.")
    else:
        exchange.policy, exchange.described = session.context_policy, session.described
        exchange.memory = Memory(known, partial(_keep_summary, history, owner, place.session))
    while not said and path and path[-1].message.role == "assistant":
        path.pop()
    if not said and (not path or path[-1].message.role not in ("user", "tool")):
        raise InvalidRequest("There is no question to answer again.", param="messages")
    exchange.before = (*own, *(turn.message for turn in path))
    exchange.parent = path[-1].id if path else None
    exchange.asked = chained(exchange.parent, said)
    return exchange


def _as_persona(history: History, name: str, exchange: Exchange, own: list[Message]) -> list[Message]:
    """System messages: those that the request has, or the persona's; its collections are noted."""
    try:
        persona = history.personas.get(exchange.owner, name)
    except NotFound:
        exchange.warnings.append(f"The persona '{name}' is not there any more; the session goes on without it.")
        return own
    exchange.collections = persona.collections
    return own or ([] if persona.prompt is None else [Message("system", persona.prompt)])


def _keep_summary(history: History, owner: str, session: str, digest: str, text: str) -> None:
    history.journal.add(partial(history.sessions.keep_summary, owner, session, digest, text))


def _not_kept(trouble: str) -> str:
    return f"This exchange may not be kept. {trouble}"
