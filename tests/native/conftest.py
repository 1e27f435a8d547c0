"""A tiny model with one token per byte, in a GGUF file, and engines that run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from madang.core import SamplingParams
from madang.hardware import Choice, Plan
from madang.models import ModelFiles
from madang.native import NativeEngine, load

CONTEXT_TOKENS = 160
PAGE_BYTES = 2 * 2 * 16 * (16 + 16) * 2  # 2 layers, 2 heads of 16, keys and values in float16

OpenEngine = Callable[..., NativeEngine]


def as_files(path: Path, **facts: Any) -> ModelFiles:
    """What the models room would say of a GGUF file."""
    facts = {"format": "gguf", "sampling_defaults": SamplingParams(temperature=0), **facts}
    return ModelFiles(
        name="tiny",
        path=path,
        size_bytes=path.stat().st_size,
        source=str(path),
        modified=datetime(2026, 1, 1, tzinfo=UTC),
        **facts,
    )


def as_plan(
    *,
    context_tokens: int = CONTEXT_TOKENS,
    chunk: int = 64,
    threads: int = 1,
    isa: str = "auto",
    n_pages: int = 1000,
    concurrency: int = 32,
    speculation: str = "off",
    kv_type: str = "f16",
) -> Plan:
    """A plan without reasons; ``n_pages`` of the tiny model's cache, in float16."""
    return Plan(
        Choice(threads, ""),
        Choice(context_tokens, ""),
        Choice(isa, ""),
        Choice(chunk, ""),
        kv_limit_bytes=Choice(n_pages * PAGE_BYTES, ""),
        max_concurrency=Choice(concurrency, ""),
        speculation=Choice(speculation, ""),
        kv_type=Choice(kv_type, ""),
    )


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, in F32."""
    from tests.native.tiny import MODEL
    from tests.parity.checkpoints import write_checkpoint

    return write_checkpoint(MODEL, tmp_path_factory.mktemp("tiny") / "tiny.gguf").path


@pytest.fixture
def open_engine(tiny_gguf: Path) -> Iterator[OpenEngine]:
    """Loads the tiny model as a plan with these values says, and closes it in the end."""
    opened: list[NativeEngine] = []

    def open_with(**plan: Any) -> NativeEngine:
        opened.append(load(as_files(tiny_gguf), as_plan(**plan)))
        return opened[-1]

    yield open_with
    for engine in opened:
        engine.close()
