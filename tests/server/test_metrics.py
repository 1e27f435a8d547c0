"""The numbers: what a generation adds to which metric, and that pages and dashboards name only what there is."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from madang.core.errors import ContextLengthExceeded, EngineError
from madang.core.events import ContextLedger, Done, TextDelta, Timings, Usage
from madang.server.limits import Place
from madang.server.metrics import METRICS, ServerMetrics
from madang.server.metrics_page import exposed_name, main, page
from madang.server.recent import RecentModel
from tests.server.serving import tiny_app

ROOT = Path(__file__).resolve().parents[2]

DONE = Done(
    "length",
    Usage(prompt_tokens=100, cached_tokens=60, completion_tokens=11),
    Timings(0.0, 0.25, 0.5, 2.0, 0.75, 40, 10, drafted_tokens=8, accepted_tokens=6),
    ContextLedger(4096, 120, 60, 100, 20, 11),
)


def values(metrics: ServerMetrics) -> dict[tuple[str, ...], float]:
    """Every sample but the buckets: name and labels."""
    text = metrics.page()[1].decode()
    return {
        (sample.name.removeprefix("madang_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def run(metrics: ServerMetrics, *events: Any, failure: BaseException | None = None) -> None:
    with metrics.generation("m:1", "laptop", time.perf_counter()) as generation:
        generation.begin(Place())
        for event in events:
            generation.saw(event)
        if failure is not None:
            raise failure


def test_a_generation_is_counted() -> None:
    metrics = ServerMetrics()
    run(metrics, TextDelta("a"), TextDelta("b"), TextDelta("c"), DONE)
    seen = values(metrics)
    for name, value in {
        "prompt_tokens_total": 100,
        "generation_tokens_total": 11,
        "prefix_cache_queries_total": 100,
        "prefix_cache_hits_total": 60,
        "dropped_tokens_total": 20,
        "spec_decode_num_draft_tokens_total": 8,
        "spec_decode_num_accepted_tokens_total": 6,
        "time_to_first_token_seconds_count": 1,
        "inter_token_latency_seconds_count": 2,
        "e2e_request_latency_seconds_count": 1,
        "request_prefill_time_seconds_sum": 0.5,
        "request_decode_time_seconds_sum": 2.0,
        "request_time_per_output_token_seconds_sum": 0.2,
        "request_prompt_tokens_sum": 100,
        "request_generation_tokens_sum": 11,
    }.items():
        assert seen[name, "laptop", "m:1"] == pytest.approx(value), name
    assert seen["request_success_total", "laptop", "length", "m:1"] == 1
    assert seen["request_queue_time_seconds_sum", "laptop", "m:1"] >= 0.25
    assert not any(name == "request_failure_total" for name, *_ in seen)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (EngineError("It broke."), "engine_error"),
        (ContextLengthExceeded(9, 8), "exceed_context_size_error"),
        (RuntimeError("secret"), "internal_error"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_failures_go_by_their_code(failure: BaseException, code: str) -> None:
    metrics = ServerMetrics()
    with pytest.raises(type(failure)):
        run(metrics, TextDelta("a"), failure=failure)
    seen = values(metrics)
    assert seen["request_failure_total", *sorted([code, "laptop", "m:1"])] == 1
    assert not any(name == "request_success_total" for name, *_ in seen)
    assert metrics.summary()["models"]["m:1"]["failures"] == 1


def test_who_leaves_after_the_end_is_no_failure() -> None:
    metrics = ServerMetrics()
    with pytest.raises(GeneratorExit):
        run(metrics, TextDelta("a"), DONE, failure=GeneratorExit())
    assert metrics.summary()["models"]["m:1"] | {"requests": 1, "failures": 0} == metrics.summary()["models"]["m:1"]


def test_the_summary_has_percentiles_of_the_last_ones() -> None:
    metrics = ServerMetrics()
    for _ in range(3):
        run(metrics, TextDelta("a"), DONE)
    model = metrics.summary()["models"]["m:1"]
    assert (model["requests"], model["prompt_tokens"], model["cached_tokens"]) == (3, 300, 180)
    assert model["time_per_output_token_s"] == dict.fromkeys(("p50", "p95", "p99"), pytest.approx(0.2))
    assert model["cache_hit_share"] == pytest.approx(0.6)
    assert model["inter_token_latency_s"] is None  # each of them was one piece
    assert 0 <= model["time_to_first_token_s"]["p50"] <= model["request_s"]["p95"]
    json.dumps(metrics.summary())


def test_each_server_counts_for_itself() -> None:
    one, two = ServerMetrics(), ServerMetrics()
    run(one, DONE)
    assert "m:1" not in two.summary()["models"]


def test_the_latest_of_a_model() -> None:
    recent = RecentModel()
    assert recent.summary(0.0)["inter_token_latency_s"] is None and recent.summary(0.0)["tokens_per_s"] == 0
    recent.piece(100.1, None)
    for number in range(100):
        recent.piece(101.0 + number / 1000, 0.001 * (number + 1))
    found = recent.summary(103.5)
    assert found["tokens_per_s"] == 101 / 10
    assert found["inter_token_latency_s"] == {
        "p50": pytest.approx(0.0505),
        "p95": pytest.approx(0.09505),
        "p99": pytest.approx(0.09901),
    }
    assert recent.summary(111.5)["tokens_per_s"] == 100 / 10
    assert recent.summary(200.0)["tokens_per_s"] == 0


def test_the_summary_over_http(client: TestClient) -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hello there"}]}
    client.post("/v1/chat/completions", json=chat)
    found = client.get("/madang/v1/metrics").json()
    assert found["memory"]["process_bytes"] > 1 << 20
    assert found["memory"]["machine_total_bytes"] >= found["memory"]["machine_available_bytes"]
    assert found["models"]["echo:latest"]["inter_token_latency_s"]["p99"] >= 0


def test_the_application_counts(client: TestClient) -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert client.post("/nowhere/with/a/number/17").status_code == 404
    assert client.get("/v1/models/some:model").status_code == 404
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    http = {tuple(s.labels.values()) for s in families["madang_http_requests"].samples if s.name.endswith("_total")}
    assert {
        ("POST", "/v1/chat/completions", "200"),
        ("POST", "other", "404"),
        ("GET", "/v1/models/{name}", "404"),
    } <= http
    (generated,) = (s for s in families["madang_generation_tokens"].samples if s.name.endswith("_total"))
    assert generated.labels == {"model": "echo:latest", "key": ""} and generated.value > 0
    assert families["madang_num_requests_running"].samples[0].value == 0


def test_what_is_in_memory_is_told(tmp_path: Path) -> None:
    client = TestClient(tiny_app(tmp_path), base_url="http://localhost")
    text = client.get("/metrics").text
    assert 'madang_resident_model_bytes{engine="echo",model="echo"} 1000.0' in text
    first = client.get("/madang/v1/metrics").json()["resident"][0]
    assert (first["model"], first["expires_at"], first["reason"]) == ("echo", None, "It was asked for.")


def test_every_metric_is_exposed_and_none_besides() -> None:
    text = ServerMetrics().page()[1].decode()
    exposed = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert {exposed_name(metric) for metric in METRICS} == {name for name in exposed if not name.endswith("_created")}


def test_the_page_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--check"]) == 0
    for metric in METRICS:
        assert f"`{exposed_name(metric)}`" in page()


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads(ROOT.joinpath("deploy", "grafana.json").read_text(encoding="utf-8"))
    known = {exposed_name(metric): metric for metric in METRICS}
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        for name in re.findall(r"madang_\w+", expression):
            metric = known.get(name.removesuffix("_bucket"))
            assert metric is not None, name
            labels = {*re.findall(r"by \(([^)]*)\)", expression), *re.findall(r"(\w+)=~", expression)}
            used = {label.strip() for group in labels for label in group.split(",")} - {"le"}
            assert used <= set(metric.labels), expression
