"""What a server keeps of what it did: sessions, personas, runs. Answering never waits for it and never needs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from threading import Lock
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request as HttpRequest

from madang.chat import Personas, Sessions
from madang.server.background import Background
from madang.server.metrics import GenerationEnd
from madang.server.visit import VISIT
from madang.storage import Database, Journal, Run, Runs
from madang.storage.runs import facts_of

MOST_SUMMARIES = 512  # of conversations that are in no session, in memory


class History:
    """The rooms of the database, the journal that writes into them, summaries of conversations that are in none, and
    work for requests to come."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sessions, self.personas, self.runs = Sessions(database), Personas(database), Runs(database)
        self.journal = Journal()
        self.summaries = Summaries()
        self.background = Background()

    @property
    def trouble(self) -> str | None:
        """Why nothing is kept now, in a sentence without paths; None while all is well."""
        return self.database.trouble

    def keep_run(self, end: GenerationEnd) -> None:
        """Into the ledger, soon."""
        visit = VISIT.get()
        facts: dict[str, Any] = {} if visit is None else {"request_id": visit.request_id}
        facts |= {"code": end.code} if end.done is None else facts_of(end.done)
        status = "done" if end.done is not None else "cancelled" if end.code == "cancelled" else "failed"
        run = Run(model=end.model, status=status, started_at=end.started_at, owner=end.key, facts=facts)  # type: ignore[arg-type]
        self.journal.add(partial(self.runs.add, run))

    def close(self) -> None:
        """Write what waits."""
        self.journal.close()
        self.database.close()


class Summaries:
    """The last summaries by owner and digest, for clients that send their whole conversation every time."""

    def __init__(self, most: int = MOST_SUMMARIES) -> None:
        self._most = most
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = Lock()

    def of(self, owner: str) -> Mapping[str, str]:
        """All of an owner's, by digest."""
        with self._lock:
            return {digest: text for (whose, digest), text in self._texts.items() if whose == owner}

    def keep(self, owner: str, digest: str, text: str) -> None:
        """The oldest goes when there are too many."""
        with self._lock:
            self._texts[owner, digest] = text
            self._texts.move_to_end((owner, digest))
            if len(self._texts) > self._most:
                self._texts.popitem(last=False)


def caller() -> str:
    """Whose things the running request may see: the name of its key, empty where none is needed."""
    visit = VISIT.get()
    return "" if visit is None else visit.key_name


def _history(http: HttpRequest) -> History:
    history: History = http.app.state.history
    return history


Kept = Annotated[History, Depends(_history)]
