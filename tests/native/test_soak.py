"""The soak of benchmarks/soak.py, short, and that its checks can fail."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from tests.native.conftest import OpenEngine

SEED = 5


@pytest.fixture(autouse=True)
def _scripts_import_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def options(**changes: int) -> argparse.Namespace:
    return argparse.Namespace(**{"requests": 600, "clients": 12, "seed": SEED, **changes})


def test_a_short_soak_leaves_nothing_wrong(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    from soak import soak
    from soak_cases import KINDS, Sizes

    engine = open_engine(context_tokens=640, n_pages=44, concurrency=8, speculation="ngram", chunk=64)
    sizes = Sizes(words=24, answer_tokens=16, too_many_words=300)
    document = soak(engine, describe_gguf(read_gguf(tiny_gguf)).spec, tmp_path, sizes, options())
    assert document["wrong"] == []
    assert document["different_alone"] == []
    assert all(document["checks"].values()), document
    assert {name.split(":")[0] for name in document["outcomes"]} == set(KINDS)
    assert min(document["cache"][name] for name in ("found_tokens", "evicted_pages", "step_backs")) > 0


def test_an_answer_where_an_error_is_due_is_seen(open_engine: OpenEngine, tiny_gguf: Path, tmp_path: Path) -> None:
    from soak import soak
    from soak_cases import Sizes

    engine = open_engine(context_tokens=400)
    sizes = Sizes(words=24, answer_tokens=4, too_many_words=1)  # which is not too long
    document = soak(engine, describe_gguf(read_gguf(tiny_gguf)).spec, tmp_path, sizes, options(requests=60))
    assert any("too long" in sentence for sentence in document["wrong"])
    assert not document["checks"]["ended"]
