"""The arithmetic of the benchmarks of our own engine, and that they run on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from madang import _core
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint


def test_percentiles_and_spread() -> None:
    from own_engine import percentiles, spread

    values = [float(n) for n in range(100, 0, -1)]
    assert percentiles(values) == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_jobs_run_at_once_and_answer_in_order() -> None:
    import threading

    from own_engine import at_once

    together = threading.Barrier(3, timeout=30)
    assert (
        at_once([lambda: together.wait() >= 0, lambda: together.wait() >= 0, lambda: together.wait() >= 0])
        == [True] * 3
    )


def test_a_document_is_written_with_what_it_was_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import own_engine
    import peers

    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    options = own_engine.options_of("chats", [str(model), "--rounds", "2"], "")
    with own_engine.results(options) as document:
        document["figure"] = 1.5
    (written,) = tmp_path.glob("*.json")
    found: dict[str, Any] = json.loads(written.read_text())
    assert (found["figure"], found["rounds"], found["model"]["size_bytes"]) == (1.5, 2, 4)
    assert found["command"].startswith("python benchmarks/chats.py")
    assert str(tmp_path) not in written.read_text()


def test_the_questions_have_their_answer(shared_data: Path) -> None:
    import scoring

    head, questions = scoring.items()
    assert head.count("\nAnswer: ") == scoring.N_EXAMPLES
    assert all(question.endswith("\nD. " + question.rsplit("D. ", 1)[1]) for question in questions)
    assert len(set(questions)) == len(questions) > scoring.SHARED_ITEMS


def test_instruction_sets_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import instruction_sets
    import peers

    model = write_checkpoint(MODEL, tmp_path / "tiny.gguf").path
    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    sizes = ["--rounds", "2", "--threads", "1", "--prompt-tokens", "24", "--decode-tokens", "4", "--repetitions", "1"]
    assert instruction_sets.main([str(model), *sizes]) == 0
    (written,) = tmp_path.glob("*-isa.json")
    found: dict[str, Any] = json.loads(written.read_text())
    best, *_ = names = _core.available_isas()
    assert list(found["tokens_per_s"]) == [*names, f"{best}, --precision fast"]
    assert all(rate[phase]["min"] > 0 for rate in found["tokens_per_s"].values() for phase in ("prompt", "decode"))
    assert found["workload"] == {"prompt_tokens": 24, "decode_tokens": 4, "repetitions": 1}
    assert found["command"].startswith("python benchmarks/instruction_sets.py")
    assert capsys.readouterr().out.splitlines()[2].startswith("| prompt of 24, tok/s | ")
