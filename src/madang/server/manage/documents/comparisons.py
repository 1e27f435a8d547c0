"""Models that are measured side by side."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from madang.server.manage.documents.base import Document, Failure, Request


class ComparisonRequest(Request):
    """Which models of this machine to measure side by side; the first is the reference. ``name@engine`` is one by it.

    text            whether to read the texts that come with madang, for perplexity and divergence
    prompts         to be answered by all, with at most ``answer_tokens`` each
    repetitions     runs of the speed
    """

    models: list[str] = Field(min_length=1, max_length=8)
    prompts: list[Annotated[str, Field(min_length=1, max_length=8000)]] = Field(default=[], max_length=16)
    text: bool = True
    answer_tokens: int = Field(default=48, ge=1, le=1024)
    repetitions: int = Field(default=3, ge=0, le=20)


class Comparison(Document):
    """One comparison. ``at_work`` is the model that is measured now; steps are those of all models together."""

    id: str
    models: list[str]
    state: Literal["measuring", "done", "failed", "cancelled"]
    started_at: datetime
    at_work: str | None
    n_done: int
    n_steps: int
    error: Failure | None


class Comparisons(Document):
    """Those that are being made or have failed, then those with a result, each the newest first."""

    comparisons: list[Comparison]


class WholeComparison(Comparison):
    """With its figures, as ``madang compare --json`` has them; null until it is over."""

    result: dict[str, Any] | None


class RemovedComparison(Document):
    """It ends, or is forgotten."""

    id: str
