"""Traces: one span for a request, one for its generation, and its three stages inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from madang.core import TextDelta
from madang.core.errors import EngineError
from madang.core.settings import load_settings
from madang.server import ServerState
from madang.server.app import create_app
from madang.server.tracing import Traces, open_traces
from tests.server.conftest import Script
from tests.server.doubles import done

in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "a secret question"}]}
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


def spans_of(state: ServerState, *requests: dict[str, Any]) -> list[Any]:
    """Those that a server sends for these requests."""
    exporter = in_memory.InMemorySpanExporter()
    app = create_app(replace(state, traces=Traces(exporter)))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        for request in requests:
            client.post("/v1/chat/completions?key=secret", **request)
    return list(exporter.get_finished_spans())


def test_where_the_time_of_a_request_went(state: ServerState, script: Script) -> None:
    script(TextDelta("a secret answer"), done())
    headers = {"traceparent": f"00-{TRACE_ID:032x}-b7ad6b7169203331-01", "X-Request-Id": "r-1"}
    spans = {span.name: span for span in spans_of(state, {"json": BODY, "headers": headers})}
    assert set(spans) == {"POST /v1/chat/completions", "chat scripted:latest", "queue", "prefill", "decode"}
    request, generation = spans["POST /v1/chat/completions"], spans["chat scripted:latest"]
    assert {span.context.trace_id for span in spans.values()} == {TRACE_ID}
    assert generation.parent.span_id == request.context.span_id
    assert {spans[name].parent.span_id for name in ("queue", "prefill", "decode")} == {generation.context.span_id}
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["madang.request_id"] == "r-1"
    assert generation.attributes["gen_ai.usage.input_tokens"] == 7
    assert generation.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert generation.start_time == spans["queue"].start_time <= spans["queue"].end_time == spans["prefill"].start_time
    assert spans["prefill"].end_time == spans["decode"].start_time <= spans["decode"].end_time == generation.end_time
    assert "secret" not in "".join(span.to_json() for span in spans.values())


def test_failures_are_told(state: ServerState, script: Script) -> None:
    script(EngineError("It broke."))
    spans = {span.name: span for span in spans_of(state, {"json": BODY}, {"json": {**BODY, "model": "none"}})}
    assert spans["chat scripted:latest"].attributes["error.type"] == "engine_error"
    assert "decode" not in spans


def test_they_are_off_unless_wanted(tmp_path: Path) -> None:
    assert open_traces(load_settings({"home": tmp_path}, {})) is None
    traces = open_traces(load_settings({"home": tmp_path}, {"MADANG_TRACES": "1"}))
    assert traces is not None
    traces.close()
