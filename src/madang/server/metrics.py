"""What the server counts: one table of metrics, in the shapes that vLLM's dashboards know, under our own prefix.

Labels are names of models that were loaded, of keys, routes and codes: never a secret, a prompt or a path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from madang.core.errors import MadangError
from madang.core.events import Done, Event
from madang.server.recent import Finished, RecentModel

if TYPE_CHECKING:
    from prometheus_client import Histogram
    from prometheus_client.metrics_core import Metric as Family

    from madang.server.limits import Place

# Prometheus keeps the colon that vLLM writes for rules that people record themselves.
PREFIX = "madang_"

_TO_FIRST_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
_PER_TOKEN_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
)
_REQUEST_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_TOKENS = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))

_MODEL_KEY = ("model", "key")


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. ``vllm`` is the metric of vLLM that means the same, if there is one.

    A "now" is read when somebody asks; Prometheus calls it a gauge.
    """

    name: str
    kind: Literal["counter", "histogram", "now"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    vllm: str | None = None


METRICS: tuple[Metric, ...] = (
    Metric("http_requests", "counter", ("method", "route", "status"), "Answers to HTTP requests, by route and status."),
    Metric(
        "request_success",
        "counter",
        (*_MODEL_KEY, "finished_reason"),
        "Generations that came to their end, by why they ended.",
        vllm="vllm:request_success_total",
    ),
    Metric("request_failure", "counter", (*_MODEL_KEY, "code"), "Generations that failed or were left, by error code."),
    Metric("prompt_tokens", "counter", _MODEL_KEY, "Tokens of prompts.", vllm="vllm:prompt_tokens_total"),
    Metric("generation_tokens", "counter", _MODEL_KEY, "Tokens of answers.", vllm="vllm:generation_tokens_total"),
    Metric(
        "prefix_cache_queries",
        "counter",
        _MODEL_KEY,
        "Tokens of prompts that were looked up in the cache.",
        vllm="vllm:prefix_cache_queries_total",
    ),
    Metric(
        "prefix_cache_hits",
        "counter",
        _MODEL_KEY,
        "Tokens of prompts that need not be computed.",
        vllm="vllm:prefix_cache_hits_total",
    ),
    Metric(
        "dropped_tokens", "counter", _MODEL_KEY, "Tokens of prompts that were left out because the caller allowed it."
    ),
    Metric(
        "spec_decode_num_draft_tokens",
        "counter",
        _MODEL_KEY,
        "Tokens that were guessed ahead.",
        vllm="vllm:spec_decode_num_draft_tokens_total",
    ),
    Metric(
        "spec_decode_num_accepted_tokens",
        "counter",
        _MODEL_KEY,
        "Guesses that came true.",
        vllm="vllm:spec_decode_num_accepted_tokens_total",
    ),
    Metric(
        "time_to_first_token_seconds",
        "histogram",
        _MODEL_KEY,
        "From the arrival of a request to its first token, loading and waiting included.",
        _TO_FIRST_S,
        "vllm:time_to_first_token_seconds",
    ),
    Metric(
        "inter_token_latency_seconds",
        "histogram",
        _MODEL_KEY,
        "Between two pieces of an answer.",
        _PER_TOKEN_S,
        "vllm:inter_token_latency_seconds",
    ),
    Metric(
        "request_time_per_output_token_seconds",
        "histogram",
        _MODEL_KEY,
        "Decoding divided by the tokens after the first, per request.",
        _PER_TOKEN_S,
        "vllm:request_time_per_output_token_seconds",
    ),
    Metric(
        "e2e_request_latency_seconds",
        "histogram",
        _MODEL_KEY,
        "From the arrival of a request to the end of its answer.",
        _REQUEST_S,
        "vllm:e2e_request_latency_seconds",
    ),
    Metric(
        "request_queue_time_seconds",
        "histogram",
        _MODEL_KEY,
        "Waiting for a place, in the server and in the engine.",
        _REQUEST_S,
        "vllm:request_queue_time_seconds",
    ),
    Metric(
        "request_prefill_time_seconds",
        "histogram",
        _MODEL_KEY,
        "Reading the prompt.",
        _REQUEST_S,
        "vllm:request_prefill_time_seconds",
    ),
    Metric(
        "request_decode_time_seconds",
        "histogram",
        _MODEL_KEY,
        "Generating, after the first token.",
        _REQUEST_S,
        "vllm:request_decode_time_seconds",
    ),
    Metric(
        "request_prompt_tokens",
        "histogram",
        _MODEL_KEY,
        "Tokens of the prompt, per request.",
        _TOKENS,
        "vllm:request_prompt_tokens",
    ),
    Metric(
        "request_generation_tokens",
        "histogram",
        _MODEL_KEY,
        "Tokens of the answer, per request.",
        _TOKENS,
        "vllm:request_generation_tokens",
    ),
    Metric(
        "num_requests_running", "now", (), "Generations that an engine has begun.", vllm="vllm:num_requests_running"
    ),
    Metric("num_requests_waiting", "now", (), "Generations that wait for a place.", vllm="vllm:num_requests_waiting"),
    Metric("history_available", "now", (), "1 while sessions and runs can be kept, 0 while the database fails."),
    Metric("history_entries_waiting", "now", (), "Messages and runs that are not written yet."),
    Metric("history_entries_lost", "now", (), "Messages and runs that were not kept since the server began."),
    Metric("resident_model_bytes", "now", ("model", "engine"), "Memory of each model that is loaded."),
    Metric("resident_model_leases", "now", ("model", "engine"), "Requests that hold each loaded model."),
)

Row = tuple[tuple[str, ...], float]  # values of the labels, and the number
Now = Callable[[], Mapping[str, Iterable[Row]]]


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """A generation that is over. ``code`` is that of the error which ended it, or "cancelled"; None after a Done.

    ran_alone   no other generation of this server ran meanwhile
    """

    model: str
    key: str
    started_at: datetime
    done: Done | None
    code: str | None
    ran_alone: bool


class ServerMetrics:
    """The numbers of one server. ``now`` gives the rows of every metric that is read when somebody asks; ``ended`` is
    told of every generation, and must not wait."""

    def __init__(self, now: Now = dict, *, ended: Callable[[GenerationEnd], None] | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._now = now
        self._ended = ended
        self._began_s = time.monotonic()
        self._recent: dict[str, RecentModel] = {}
        self.registry = CollectorRegistry()
        self._metrics: dict[str, Any] = {}
        for row in METRICS:
            if row.kind == "counter":
                self._metrics[row.name] = Counter(PREFIX + row.name, row.help, row.labels, registry=self.registry)
            elif row.kind == "histogram":
                self._metrics[row.name] = Histogram(
                    PREFIX + row.name, row.help, row.labels, registry=self.registry, buckets=row.buckets
                )
        self.registry.register(_Gauges(self))

    def answered(self, route: str, method: str, status: int) -> None:
        """An HTTP request has its answer. ``route`` is the route's pattern, not what the client wrote."""
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"
        self._metrics["http_requests"].labels(known, route, str(status)).inc()

    @contextmanager
    def generation(self, model: str, key: str, arrived_s: float) -> Iterator[Generation]:
        """One generation while it runs. ``arrived_s`` is when its request came, on :func:`time.perf_counter`."""
        generation = Generation(self, (model, key), arrived_s)
        started_at = datetime.now(UTC)
        code = "cancelled"
        try:
            yield generation
        except MadangError as error:
            code = error.code
            raise
        except Exception:
            code = "internal_error"
            raise
        finally:
            if generation.done is None:
                self._metrics["request_failure"].labels(model, key, code).inc()
                self.recent(model).totals["failures"] += 1
            if self._ended is not None:
                done = generation.done
                place = generation.place
                ran_alone = place is not None and not place.had_company
                self._ended(GenerationEnd(model, key, started_at, done, code if done is None else None, ran_alone))

    def page(self) -> tuple[str, bytes]:
        """What Prometheus reads: content type and text."""
        from prometheus_client import exposition

        return exposition.CONTENT_TYPE_PLAIN_0_0_4, exposition.generate_latest(self.registry)

    def summary(self, shows: Callable[[str], bool] = bool) -> dict[str, Any]:
        """The same for people and pages: totals since the start, and latencies of the last generations.

        ``shows`` says of a model whether the caller may know of it. Call it where generations are counted.
        """
        rows = {name: list(values) for name, values in self._now().items()}
        return {
            "uptime_s": time.monotonic() - self._began_s,
            "running": _single(rows.get("num_requests_running")),
            "waiting": _single(rows.get("num_requests_waiting")),
            "models": {model: self._recent[model].summary() for model in sorted(self._recent) if shows(model)},
        }

    def rows(self) -> Mapping[str, Iterable[Row]]:
        """What the metrics of kind "now" are, now."""
        return self._now()

    def observe(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram of the table."""
        self.histogram(name, labels).observe(value)

    def histogram(self, name: str, labels: tuple[str, ...]) -> Histogram:
        """One histogram of the table, for those who observe often."""
        found: Histogram = self._metrics[name].labels(*labels)
        return found

    def finished(self, labels: tuple[str, str], done: Done, queue_s: float, seen: Finished) -> None:
        """A generation came to its end."""
        usage, timings = done.usage, done.timings
        self._metrics["request_success"].labels(*labels, done.finish_reason).inc()
        for name, n_tokens in {
            "prompt_tokens": usage.prompt_tokens,
            "generation_tokens": usage.completion_tokens,
            "prefix_cache_queries": usage.prompt_tokens,
            "prefix_cache_hits": usage.cached_tokens,
            "dropped_tokens": done.ledger.dropped_tokens,
            "spec_decode_num_draft_tokens": timings.drafted_tokens,
            "spec_decode_num_accepted_tokens": timings.accepted_tokens,
        }.items():
            self._metrics[name].labels(*labels).inc(n_tokens)
        for name, value in {
            "e2e_request_latency_seconds": seen.request_s,
            "request_queue_time_seconds": queue_s + timings.queue_s,
            "request_prefill_time_seconds": timings.prompt_s,
            "request_decode_time_seconds": timings.decode_s,
            "request_prompt_tokens": usage.prompt_tokens,
            "request_generation_tokens": usage.completion_tokens,
        }.items():
            self.observe(name, labels, value)
        if timings.decode_tokens > 0:
            per_token_s = timings.decode_s / timings.decode_tokens
            self.observe("request_time_per_output_token_seconds", labels, per_token_s)
        recent = self.recent(labels[0])
        recent.finished(seen)
        recent.totals.update(
            requests=1,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            generation_tokens=usage.completion_tokens,
            drafted_tokens=timings.drafted_tokens,
            accepted_tokens=timings.accepted_tokens,
        )

    def recent(self, model: str) -> RecentModel:
        """What is kept of a model for people who look now."""
        found = self._recent.get(model)
        if found is None:
            found = self._recent[model] = RecentModel()
        return found


class Generation:
    """One generation, told of its events as they pass. Its times are those that a client sees."""

    def __init__(self, metrics: ServerMetrics, labels: tuple[str, str], arrived_s: float) -> None:
        self._metrics, self._labels, self._arrived_s = metrics, labels, arrived_s
        self._queued_s = time.perf_counter()
        self._begun_s = self._queued_s
        self._last_s: float | None = None
        self._between: Histogram | None = None
        self._to_first_s: float | None = None
        self._first_s = 0.0
        self._recent = metrics.recent(labels[0])
        self.is_begun = False
        self.n_pieces = 0
        self.done: Done | None = None
        self.place: Place | None = None

    def begin(self, place: Place) -> None:
        """The engine has a place for it."""
        self.place = place
        self._begun_s = time.perf_counter()
        self.is_begun = True

    def saw(self, event: Event) -> None:
        """Count what an event tells."""
        now_s = time.perf_counter()
        if isinstance(event, Done):
            self.done = event
            timings = event.timings
            per_token_s = timings.decode_s / timings.decode_tokens if timings.decode_tokens > 0 else None
            usage = event.usage
            seen = Finished(
                self._to_first_s, per_token_s, now_s - self._arrived_s, usage.prompt_tokens, usage.cached_tokens
            )
            self._metrics.finished(self._labels, event, self._begun_s - self._queued_s, seen)
            return
        if self._last_s is None or self._between is None:
            self._to_first_s = now_s - self._arrived_s
            self._metrics.observe("time_to_first_token_seconds", self._labels, self._to_first_s)
            self._between = self._metrics.histogram("inter_token_latency_seconds", self._labels)
            self._first_s = now_s
            self._recent.piece(now_s, None)
        else:
            self._between.observe(now_s - self._last_s)
            self._recent.piece(now_s, now_s - self._last_s)
        self.n_pieces += 1
        self._last_s = now_s

    @property
    def pieces_per_s(self) -> float | None:
        """Since the first; None before the second."""
        if self._last_s is None or self._last_s == self._first_s:
            return None
        return (self.n_pieces - 1) / (self._last_s - self._first_s)


class _Gauges:
    """A collector of prometheus_client: asked at every scrape."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """One family for each metric of kind "now"."""
        from prometheus_client.core import GaugeMetricFamily

        rows = self._metrics.rows()
        for metric in METRICS:
            if metric.kind == "now":
                family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
                for labels, value in rows.get(metric.name, ()):
                    family.add_metric(labels, value)
                yield family


def _single(rows: list[Row] | None) -> float:
    return rows[0][1] if rows else 0
