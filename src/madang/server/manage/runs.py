"""The ledger of generations. A caller sees its own only; prompts and answers are not in it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from madang.server.bridge import in_thread
from madang.server.exchanges import SETTLE_S
from madang.server.history import History, Kept, caller
from madang.server.manage.documents import runs as wire
from madang.storage import Run

router = APIRouter()

MOST_RUNS = 1000  # in one answer


@router.get("/runs")
async def list_runs(
    history: Kept,
    model: Annotated[str | None, Query(max_length=4096)] = None,
    before: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_RUNS)] = 100,
) -> wire.RunStates:
    """The caller's generations, the newest first. ``before`` is the id that the page before ended with."""
    runs = await in_thread(partial(_runs, history, caller(), model, before, limit))
    return wire.RunStates(runs=[_state(run) for run in runs])


def _runs(history: History, owner: str, model: str | None, before: int | None, limit: int) -> list[Run]:
    history.journal.settle(SETTLE_S)
    return history.runs.list(owner, model=model, before=before, limit=limit)


def _state(run: Run) -> wire.RunState:
    fields = asdict(run)
    del fields["owner"]
    return wire.RunState(**fields)
