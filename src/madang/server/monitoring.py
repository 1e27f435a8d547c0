"""Whether the server lives and is ready, and what it counts."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from madang.server.history import History
from madang.server.layers import Drain
from madang.server.metrics import ServerMetrics
from madang.server.scopes import check_overseer, is_visible
from madang.server.state import ModelPool


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
    def summary() -> dict[str, Any]:
        """Totals and latencies per model, and the models in memory. Sizes in bytes, times in seconds."""
        return metrics.summary(is_visible) | {
            "resident": [_resident(one) for one in pool.resident() if is_visible(one.reference)]
        }


def _resident(one: Any) -> dict[str, Any]:
    return {
        "model": one.reference,
        "engine": one.info.engine,
        "context_tokens": one.info.context_tokens,
        "max_concurrency": one.info.max_concurrency,
        "size_bytes": one.size_bytes,
        "loaded_at": one.loaded_at.isoformat(),
        "expires_at": None if one.expires_at is None else one.expires_at.isoformat(),
        "leases": one.n_leases,
        "reason": one.reason,
    }
