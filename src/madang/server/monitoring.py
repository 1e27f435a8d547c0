"""Whether the server lives and is ready, and what it counts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from madang.hardware.residence import memory_use
from madang.server.bridge import in_thread
from madang.server.history import History
from madang.server.layers import Drain
from madang.server.live import live_requests
from madang.server.manage.documents import monitoring as wire
from madang.server.metrics import ServerMetrics
from madang.server.scopes import check_overseer, is_visible
from madang.server.state import ModelPool
from madang.server.visit import Visit


def include(app: FastAPI, pool: ModelPool, *, drain: Drain, metrics: ServerMetrics) -> None:
    """Add ``/health`` and ``/ready``, which need no key, ``/metrics`` and ``/madang/v1/metrics``."""
    app.state.drain = drain

    @app.head("/health", include_in_schema=False)
    @app.get("/health", tags=["monitoring"])
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", tags=["monitoring"])
    async def ready() -> Response:
        """Whether new requests are taken: 503 while the server stops. ``history`` says what is wrong with it."""
        if drain.is_draining:
            return JSONResponse({"status": "stopping"}, status_code=503)
        history: History = app.state.history
        return JSONResponse({"status": "ok", "history": history.trouble or history.database.notice or "ok"})

    @app.get("/metrics", tags=["monitoring"])
    def prometheus() -> Response:
        """All metrics, as Prometheus reads them."""
        check_overseer()
        content_type, body = metrics.page()
        return Response(body, headers={"Content-Type": content_type})

    @app.get("/madang/v1/metrics", tags=["monitoring"])
    async def summary() -> wire.Metrics:
        """Totals and the latest per model, the models in memory, and memory. Sizes in bytes, times in seconds."""
        resident = [_resident(one) for one in await in_thread(pool.resident) if is_visible(one.reference)]
        memory = wire.MemoryUse(**asdict(await in_thread(memory_use)))
        return wire.Metrics(**metrics.summary(is_visible), resident=resident, memory=memory)

    @app.get("/madang/v1/requests", tags=["monitoring"])
    async def requests() -> wire.LiveRequests:
        """The requests that use a model now, the oldest first. What they say is not told."""
        check_overseer()
        visits: dict[int, Visit] = app.state.visits
        live = [one for one in live_requests(visits.values()) if is_visible(one.model)]
        return wire.LiveRequests(requests=[wire.LiveRequest(**asdict(one)) for one in live])


def _resident(one: Any) -> wire.ResidentNow:
    return wire.ResidentNow(
        model=one.reference,
        engine=one.info.engine,
        context_tokens=one.info.context_tokens,
        max_concurrency=one.info.max_concurrency,
        size_bytes=one.size_bytes,
        loaded_at=one.loaded_at,
        expires_at=one.expires_at,
        leases=one.n_leases,
        reason=one.reason,
    )
