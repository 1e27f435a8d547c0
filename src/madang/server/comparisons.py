"""Comparisons that a server makes: one at a time, each model of it alone in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from madang.core.errors import MadangError, Overloaded
from madang.core.settings import Settings
from madang.evaluation import ComparisonPlan, Contestant, compare, enter
from madang.evaluation.results import Results, new_result_id

RunState = Literal["measuring", "done", "failed", "cancelled"]
MAX_REMEMBERED: Final = 16  # that are over without a result
RETRY_S: Final = 60.0

Compare = Callable[..., dict[str, Any]]


class ComparisonCancelled(MadangError):
    """Somebody ended it; what was measured is kept for the next one."""

    code = "comparison_cancelled"


@dataclass(eq=False, slots=True)
class ComparisonRun:
    """One comparison, told of by the thread that makes it.

    at_work   which model is measured now; ``n_done`` of ``n_steps`` steps are done, of all models together
    """

    id: str
    models: tuple[str, ...]
    n_steps: int
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: RunState = "measuring"
    at_work: str | None = None
    n_done: int = 0
    error: BaseException | None = None
    is_cancelled: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state != "measuring"

    def tell(self, what: str, done: int, total: int) -> None:
        """See evaluation.compare. Raises ComparisonCancelled."""
        self.at_work, self.n_done, self.n_steps = what, done, total
        if self.is_cancelled:
            raise ComparisonCancelled("The comparison was cancelled.")


class Comparisons:
    """Those of a server, and the results of all that were ever made below its home."""

    def __init__(self, settings: Settings, compare: Compare = compare) -> None:
        self.results = Results(settings.home)
        self._settings, self._compare = settings, compare
        self._lock = threading.Lock()
        self._runs: dict[str, ComparisonRun] = {}

    def start(self, contestants: Sequence[Contestant], plan: ComparisonPlan) -> ComparisonRun:
        """Begin; it goes on when the client leaves. Raises Overloaded while another one runs."""
        with self._lock:
            if any(not run.is_over for run in self._runs.values()):
                raise Overloaded("Another comparison is being made, and there is one at a time.", retry_after_s=RETRY_S)
            models = tuple(str(one) for one in contestants)
            run = ComparisonRun(new_result_id(), models, len(models) * plan.n_steps)
            self._runs[run.id] = run
            over = [one for one in self._runs.values() if one.is_over]
            for one in over[: max(len(over) - MAX_REMEMBERED, 0)]:
                del self._runs[one.id]
        work = (run, contestants, plan)
        threading.Thread(target=self._make, args=work, name="madang-comparison", daemon=True).start()
        return run

    def runs(self) -> list[ComparisonRun]:
        """The one that is being made, and the last that have no result, the newest first."""
        with self._lock:
            return [run for run in reversed(self._runs.values()) if run.state != "done"]

    def find(self, id: str) -> ComparisonRun | None:
        """The one of that id, unless it has its result."""
        return next((run for run in self.runs() if run.id == id), None)

    def cancel_all(self) -> None:
        """The server stops."""
        for run in self.runs():
            run.is_cancelled = True

    def _make(self, run: ComparisonRun, contestants: Sequence[Contestant], plan: ComparisonPlan) -> None:
        try:
            entrants = enter(contestants, self._settings)
            document: Mapping[str, Any] = self._compare(entrants, self._settings, plan, tell=run.tell)
            self.results.keep(document, run.id)
        except ComparisonCancelled as error:
            run.error, run.state = error, "cancelled"
        except BaseException as error:
            run.error, run.state = error, "failed"
        else:
            run.state = "done"
