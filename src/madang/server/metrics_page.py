"""Writes ``docs/reference/metrics.md``: ``python -m madang.server.metrics_page [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from madang.server.metrics import METRICS, PREFIX, Metric

DEFAULT_PATH = Path("docs/reference/metrics.md")
_SUFFIX = {"counter": "_total", "histogram": "", "now": ""}
_KIND = {"counter": "counter", "histogram": "histogram", "now": "gauge"}


_HEAD = """<!-- Written by `python -m madang.server.metrics_page`. Change the table of metrics, not this file. -->

# Metrics

`GET /metrics` gives them to Prometheus, with an API key where the server has one. The last column names the metric of
vLLM with the same meaning and shape: a dashboard made for it needs another prefix, nothing else. Colons are left to
recording rules, as Prometheus asks.

`model` is the canonical name of a model that was loaded, `key` the name of the API key, empty on a server without
keys. No label ever holds a prompt, a path that a client wrote, or a secret.

| metric | kind | labels | meaning | vLLM |
|---|---|---|---|---|
"""
_FOOT = """
`GET /madang/v1/metrics` gives totals, the latencies of the last generations of each model, and the models in memory as
one JSON object; `madang top` and `madang ps` show it. A Grafana dashboard lies in
[deploy/grafana.json](../../deploy/grafana.json).
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(map(_row, METRICS)) + _FOOT


def _row(metric: Metric) -> str:
    cells = [f"`{exposed_name(metric)}`", _KIND[metric.kind], _labels(metric), metric.help, _vllm(metric)]
    return f"| {' | '.join(cells)} |\n"


def exposed_name(metric: Metric) -> str:
    """The name as Prometheus sees it."""
    return PREFIX + metric.name + _SUFFIX[metric.kind]


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "-"


def _vllm(metric: Metric) -> str:
    return "-" if metric.vllm is None else f"`{metric.vllm}`"


def main(args: list[str]) -> int:
    """Write the page; with ``--check``, only say whether the file is what would be written."""
    if "--check" not in args:
        DEFAULT_PATH.write_text(page(), encoding="utf-8")
        return 0
    if DEFAULT_PATH.is_file() and DEFAULT_PATH.read_text(encoding="utf-8") == page():
        return 0
    print(f"{DEFAULT_PATH} is out of date; write it with: python -m madang.server.metrics_page", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
