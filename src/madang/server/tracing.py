"""Traces in OpenTelemetry's words: a span for each request, and in it where the time of its generation went.

Off unless the setting ``traces`` is on. Where traces go is said by OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``, …). Prompts, answers and queries are in no span.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from madang import __version__
from madang.core.errors import InvalidRequest
from madang.core.settings import Settings
from madang.server.metrics import GenerationEnd

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

INSTALL = "pip install 'madang[otel]'"


class Traces:
    """Spans on their way out; sending them is a thread's business. ``exporter`` is OTLP over HTTP unless given."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise InvalidRequest(
                "Traces need OpenTelemetry, which is not installed.", param="traces", hint=INSTALL
            ) from error
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before this.
        resource = Resource({"service.name": "madang", "service.version": __version__}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("madang", __version__)

    def begin(self, method: str, headers: Mapping[str, str]) -> Span:
        """A request has come. A ``traceparent`` of the client makes it a part of that trace."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract(dict(headers))
        return self._tracer.start_span(method, context, SpanKind.SERVER, {"http.request.method": method})

    def end(self, span: Span, method: str, route: str, facts: Mapping[str, Any]) -> None:
        """It has its answer. ``route`` is the route's pattern; None among the ``facts`` is left out."""
        from opentelemetry.trace import Status, StatusCode

        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
        span.set_attributes({name: value for name, value in facts.items() if value is not None})
        if facts.get("http.response.status_code", 0) >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def generated(self, parent: Span, end: GenerationEnd) -> None:
        """A generation of that request is over: its span, with queue, prefill and decode in it."""
        from opentelemetry.trace import set_span_in_context

        now_ns = time.time_ns()
        began_ns = min(int(end.started_at.timestamp() * 1e9), now_ns)
        span = self._tracer.start_span(
            f"chat {end.model}",
            set_span_in_context(parent),
            attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": end.model},
            start_time=began_ns,
        )
        if end.done is None:
            span.set_attribute("error.type", end.code or "")
        else:
            usage, timings = end.done.usage, end.done.timings
            span.set_attributes(
                {
                    "gen_ai.usage.input_tokens": usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": usage.completion_tokens,
                    "gen_ai.response.finish_reasons": [end.done.finish_reason],
                    "madang.cached_tokens": usage.cached_tokens,
                    "madang.dropped_tokens": end.done.ledger.dropped_tokens,
                }
            )
            decode_ns = max(now_ns - int(timings.decode_s * 1e9), began_ns)
            prefill_ns = max(decode_ns - int(timings.prompt_s * 1e9), began_ns)
            stages = {"queue": began_ns, "prefill": prefill_ns, "decode": decode_ns}
            for (name, start_ns), end_ns in zip(stages.items(), (prefill_ns, decode_ns, now_ns), strict=True):
                self._tracer.start_span(name, set_span_in_context(span), start_time=start_ns).end(end_ns)
        span.end(now_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def open_traces(settings: Settings) -> Traces | None:
    """None unless they are wanted. Raises InvalidRequest when they are, and cannot be."""
    return Traces() if settings.traces else None
