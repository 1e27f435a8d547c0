"""A chat in the terminal that is kept: where it is found again, and how its turns get there."""

from __future__ import annotations

from pathlib import Path

from madang.chat import Changes, Session, Sessions, Turn, chained
from madang.chat.sessions import new_turn_id
from madang.cli.console import note
from madang.core import Done, Message
from madang.core.errors import InvalidRequest, MadangError, NotFound, StorageError
from madang.storage import DATABASE_FILE, Database
from madang.storage.runs import facts_of

_OWNER = ""  # of who sits at the machine itself


class Keeper:
    """One session of the terminal. When the database fails, the chat goes on and says once that it is not kept."""

    def __init__(self, sessions: Sessions, session: Session) -> None:
        self.session = session
        self._sessions = sessions
        self._path = sessions.path(_OWNER, session.id)
        self._is_told = False

    @property
    def messages(self) -> list[Message]:
        """What was said so far."""
        return [turn.message for turn in self._path]

    def keep(self, question: Message, answer: Message, model: str, done: Done | None) -> None:
        """Both at the end of the conversation; without a Done the answer was cut."""
        turns = chained(self._path[-1].id if self._path else None, [question])
        turns.append(
            Turn(
                id=new_turn_id(),
                message=answer,
                parent=turns[0].id,
                state="partial" if done is None else "whole",
                model=model,
                facts={} if done is None else facts_of(done),
            )
        )
        try:
            self._sessions.append(_OWNER, self.session.id, turns)
        except MadangError as error:
            if not self._is_told:
                note(f"This conversation is not kept: {error.message}")
            self._is_told = True
        else:
            self._path += turns

    def begin_again(self) -> None:
        """The next question is the first of another branch."""
        self._path = []


def open_session(home: Path, name: str | None) -> Keeper | None:
    """The session of that id or title, made if there is none; without a name the last used one.

    None, with a note, when the database fails. Raises InvalidRequest when there is none to go on with.
    """
    sessions = Sessions(Database(home / DATABASE_FILE))
    try:
        return Keeper(sessions, _last(sessions) if name is None else _named(sessions, name))
    except StorageError as error:
        note(f"This conversation is not kept: {error.message}")
        return None


def _last(sessions: Sessions) -> Session:
    found = sessions.find(_OWNER, limit=1)
    if not found:
        raise InvalidRequest(
            "There is no session to go on with.",
            param="continue",
            hint="Begin one with: madang run MODEL --session NAME",
        )
    return found[0]


def _named(sessions: Sessions, name: str) -> Session:
    try:
        return sessions.named(_OWNER, name)
    except NotFound:
        return sessions.create(_OWNER, Changes(title=name))
