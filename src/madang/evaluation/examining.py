"""One contestant: its process, started when there is something to do, and the results of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.engines.child_process import ChildProcess
from madang.evaluation.contestants import Entrant
from madang.evaluation.kept import KeptSteps, key_of

Result = Mapping[str, Any]
CONTEXT_TOKENS: Final = 4096  # where nobody asks for another: a part of the memory that is compared
_FACTS: Final = "facts"
_MODULE: Final = "madang.evaluation.child"


class Examination:
    """Steps of one contestant, those before them kept.

    lost       why it can do nothing more; None while it can
    problems   by kind of step, why it could not be done
    n_done     steps that were done now, and ``n_found`` those that had been kept
    """

    def __init__(self, entrant: Entrant, settings: Settings, kept: KeptSteps, *, side_by_side: bool = False) -> None:
        """``side_by_side`` lets it compute several answers at once, where its memory is not measured."""
        self.entrant = entrant
        self.lost: str | None = None
        self.problems: dict[str, str] = {}
        self.n_done = self.n_found = 0
        self._opening = {
            "open": settings_to_tell(settings, entrant, side_by_side=side_by_side),
            "model": entrant.contestant.reference,
        }
        self._kept = kept
        self._child: ChildProcess | None = None

    @property
    def facts(self) -> Result | None:
        """What is known since it was first opened; None when it could not be."""
        return self._kept.find(_FACTS)

    def close(self) -> None:
        """End the process; the next step starts another."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def take(self, kind: str, step: Result, paths: Result | None = None) -> Result | None:
        """The result of a step; None when it, or one of its kind before it, could not be done.

        ``paths`` are a part of what is asked, but not of what the result is kept under.
        """
        key = key_of(step)
        found = self._kept.find(key)
        if found is not None:
            self.n_found += 1
            return found
        result = self.take_again(kind, {**step, **(paths or {})})
        if result is not None:
            self.n_done += 1
            self._kept.keep(key, result)
        return result

    def take_again(self, kind: str, step: Result) -> Result | None:
        """The same, neither looked up nor kept."""
        if self.lost is not None or kind in self.problems or not self._is_open():
            return None
        result = self._ask(step)
        if result is not None and "problem" in result:
            self.problems[kind] = result["problem"]
            return None
        return result

    def ask(self, step: Result) -> Iterator[Result]:
        """What comes of a step that has several results, neither looked up nor kept; fewer when the process ends.

        Raises InvalidRequest for what it cannot do.
        """
        if self.lost is not None or not self._is_open():
            return
        assert self._child is not None  # it is open
        result = self._ask(step)
        while result is not None and "end" not in result:
            if "problem" in result:
                raise InvalidRequest(result["problem"])
            yield result
            result = self._heard(self._child.receive())

    def knows(self, step: Result) -> bool:
        """Whether the result of a step is kept."""
        return self._kept.find(key_of(step)) is not None

    def _is_open(self) -> bool:
        if self._child is not None:
            return True
        self._child = ChildProcess(_MODULE)
        facts = self._ask(self._opening)
        if facts is None or "problem" in facts:
            self.lost = self.lost if facts is None else facts["problem"]
            self.close()
            return False
        if self.facts is None:
            self._kept.keep(_FACTS, facts)
        return True

    def _ask(self, step: Result) -> Result | None:
        """What the process answers; None when it ended instead, which is the end of this examination."""
        assert self._child is not None  # _is_open has seen to it
        try:
            result = self._child.tell(step)
        except OSError as error:  # it does not listen any more
            result = {"error": str(error)}
        return self._heard(result)

    def _heard(self, result: dict[str, Any]) -> Result | None:
        if "error" not in result:
            return result
        assert self._child is not None  # it has just been listened to
        self.lost = self._child.last_words(_why_it_ended(self._child.status()))
        return None


def _why_it_ended(status: int | None) -> str:
    if status == -9:
        return "Its process was killed, as systems do when memory runs out"
    return f"Its process ended with status {status}"


def settings_to_tell(settings: Settings, entrant: Entrant, *, side_by_side: bool = False) -> dict[str, Any]:
    """The settings that somebody chose, for the process; what makes figures incomparable is the same for all."""
    told: dict[str, Any] = {
        setting.name: str(value) if setting.kind == "path" else value
        for setting, value, origin in settings.rows()
        if value is not None and (origin != "default" or setting.name == "home")
    }
    context = CONTEXT_TOKENS if settings.context is None else settings.context
    return {
        **told,
        **({} if side_by_side else {"concurrency": 1}),  # some engines take memory for each
        "engine": entrant.contestant.engine,
        "context": context,
        "speculation": "off",  # a prompt of repeated words would be guessed
    }
