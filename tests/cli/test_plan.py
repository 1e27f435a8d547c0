"""``madang plan``: of the starter, of tables, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Madang


def test_the_table_is_exact(madang: Madang) -> None:
    document = madang("plan", "--table", "--context", "2048", "--json").json()
    assert document["context_tokens"] == 2048
    row = next(row for row in document["models"] if (row["size"], row["precision"]) == ("7B", "FP16"))
    assert row["kv_cache_bytes"] == 2048 * 2 * 2 * 32 * 4096
    assert row["total_bytes"] == row["weights_bytes"] + row["kv_cache_bytes"] + row["working_bytes"]
    text = madang("plan", "--table").out
    assert "Llama 2 13B" in text
    assert "The cache is for 4096 tokens" in text


@pytest.mark.parametrize("words", [(), ("smollm2:135m", "--table")])
def test_it_takes_a_model_or_a_table(madang: Madang, words: tuple[str, ...]) -> None:
    result = madang("plan", *words)
    assert result.status == 2
    assert "either a model or --table" in result.err


def test_an_unknown_kind_of_cache_is_refused(madang: Madang) -> None:
    assert "no kind of cache named 'int4'" in madang("plan", "--table", "--kv-type", "int4").err


def test_a_plan_has_reasons_memory_and_speed(madang: Madang, starter_gguf: Path, home: Path) -> None:
    from madang.hardware import save_profile
    from tests.hardware.test_forecast import PROFILE

    reference = f"file:{starter_gguf}"
    document = madang("plan", reference, "--context", "1024", "--json").json()
    assert document["engine"] == "native"
    assert document["plan"]["context_tokens"] == {"value": 1024, "reason": "as requested"}
    memory = document["memory"]
    assert memory["kv_cache_bytes"] == 1024 * 23_040
    assert memory["weights_bytes"] == sum(row["memory_bytes"] for row in document["types"])
    assert document["speeds"] == []
    assert "madang doctor --measure" in madang("plan", reference).out

    save_profile(home, PROFILE)
    speeds = madang("plan", reference, "--context", "1024", "--json").json()["speeds"]
    assert [speed["tokens"] for speed in speeds] == [512, 1024]
    assert speeds[0]["decode_tokens_per_s"] > speeds[1]["decode_tokens_per_s"] > 0
    assert "PROMPT TOKENS/S" in madang("plan", reference).out


def test_runs_teach_forecasts(madang: Madang, starter_gguf: Path, home: Path) -> None:
    from madang.hardware import save_profile
    from madang.hardware.corrections import read_observed
    from tests.hardware.test_forecast import PROFILE

    save_profile(home, PROFILE)
    words = ("run", f"file:{starter_gguf}", "Why is the sky blue? " * 20, "--speculation", "off", "--max-tokens", "24")
    assert madang(*words, "--json", "--temperature", "0").status == 0
    ((model, observed),) = read_observed(home).items()
    assert observed.kind == "native/llama/Q4_1"
    assert [len(one.ratios) for one in observed.learned.values()] == [1, 1, 1]
    report = madang("doctor", "--json").json()["forecast"]
    assert report["profile"]["measured_at"] == PROFILE.measured_at
    assert report["errors"][model]["prompt"]["runs"] == 1
    table = madang("doctor").out
    assert "What forecasts were usually off by" in table
    assert f"{model} " in table


def test_a_context_beyond_the_models_is_refused(madang: Madang, starter_gguf: Path) -> None:
    result = madang("plan", f"file:{starter_gguf}", "--context", "9000")
    assert result.status == 2
    assert "trained for 1 to 8192" in result.err
