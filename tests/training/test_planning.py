"""The plan's memory beside what was measured."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from madang.training.config import TuneConfig
from madang.training.planning import estimate_memory
from tests.conftest import ROOT

MEASURED = ROOT / "benchmarks" / "results" / "2026-11-21-training-memory.json"


def starter() -> Any:
    """The dimensions of SmolLM2-135M, in float32, as the plan reads them."""
    width, inner, vocabulary, heads, kv = 576, 1536, 49152, 9, 3
    matrices = 30 * [(width, width), (64 * kv, width), (64 * kv, width), (width, width)]
    matrices += 30 * [(inner, width), (inner, width), (width, inner)]
    n = sum(rows * columns for rows, columns in matrices) + vocabulary * width + 61 * width
    spec = SimpleNamespace(n_embd=width, n_ff=inner, n_heads=heads, head_dim=64, n_layers=30, vocab_size=vocabulary)
    tensors = {"all": SimpleNamespace(size_bytes=4 * n)}
    return SimpleNamespace(
        spec=spec, n_parameters=n, layer_matrices=matrices, description=SimpleNamespace(tensors=tensors)
    )


@pytest.mark.parametrize("point", json.loads(MEASURED.read_text())["points"], ids=lambda one: one["name"])
def test_the_plan_is_near_what_was_used(point: dict[str, Any]) -> None:
    config = TuneConfig("m", "d", method=point["method"])
    planned = estimate_memory(
        config,
        cast(Any, starter()),
        point["dtype"],
        point["row_tokens"],
        checkpointing=point["gradient_checkpointing"],
    )
    assert 0.9 < planned.total_bytes / point["used_bytes"] < 1.2
