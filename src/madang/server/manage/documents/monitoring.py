"""What the server does now, and has done."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from madang.server.manage.documents.base import Document


class Percentiles(Document):
    """Half, 95 and 99 of 100 are not above these."""

    p50: float
    p95: float
    p99: float


class ModelMetrics(Document):
    """One model: totals since the start, and the latest, of its last 512 generations; null without any.

    ``tokens_per_s`` is of its answers together, over the last ten seconds. ``cache_hit_share``: of the tokens of
    prompts, those that were not read again.
    """

    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    tokens_per_s: float
    cache_hit_share: float | None
    time_to_first_token_s: Percentiles | None
    inter_token_latency_s: Percentiles | None
    time_per_output_token_s: Percentiles | None
    request_s: Percentiles | None


class ResidentNow(Document):
    """A model in memory; ``expires_at`` is null for one that stays."""

    model: str
    engine: str
    context_tokens: int
    max_concurrency: int
    size_bytes: int
    loaded_at: datetime
    expires_at: datetime | None
    leases: int
    reason: str


class MemoryUse(Document):
    """``process_bytes`` is what the server and the processes of its engines hold."""

    process_bytes: int
    machine_total_bytes: int
    machine_available_bytes: int


class Metrics(Document):
    """What the server does: generations that run and wait, each model, and memory."""

    uptime_s: float
    running: int
    waiting: int
    models: dict[str, ModelMetrics]
    resident: list[ResidentNow]
    memory: MemoryUse


class LiveRequest(Document):
    """A request that uses a model now. ``key`` is empty where none is needed.

    ``prompt_tokens`` is null until the answer is whole; ``completion_tokens`` are pieces of text so far.
    """

    id: str
    model: str
    path: str
    key: str
    started_at: datetime
    state: Literal["waiting", "reading", "answering"]
    prompt_tokens: int | None
    completion_tokens: int
    tokens_s: float | None


class LiveRequests(Document):
    """All of them, the oldest first."""

    requests: list[LiveRequest]
