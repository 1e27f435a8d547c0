"""Medians, ratios, the table and its place in the README."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from measurement import Measurement
from report import BEGIN, END, busy_share, markdown_table, summarize, update_readme


def measured(engine: str, index: int, threads: int, prompt: float, decode: float) -> Measurement:
    return Measurement(engine, "m.gguf", index, threads, [prompt], [decode], peak_resident_bytes=50_000_000)


MEASUREMENTS = [
    measured("madang", 0, 2, 1000, 300),
    measured("llama.cpp", 0, 1, 100, 120),
    measured("llama.cpp", 0, 2, 200, 100),
    measured("madang", 1, 2, 1200, 200),
    measured("llama.cpp", 1, 1, 110, 130),
    measured("llama.cpp", 1, 2, 240, 90),
    Measurement("openvino", "m.gguf", 0, 2, reason="type not supported"),
]


def rows() -> dict[str, dict[str, Any]]:
    return {row["engine"]: row for row in summarize(MEASUREMENTS, logical_cores=2)}


def result() -> dict[str, Any]:
    return {
        "file": "2026-01-02-x.json",
        "date": "2026-01-02",
        "command": "python benchmarks/peers.py run m.gguf",
        "checkout": {"commit": "0123456789abcdef", "modified": False},
        "machine": {
            "cpu_model": "CPU",
            "cpu_family_model": "1/2",
            "physical_cores": 2,
            "logical_cores": 2,
            "memory_bytes": 2**34,
            "system": "Linux",
            "kernel": "6",
        },
        "workload": {"prompt_tokens": 512, "decode_tokens": 128, "repetitions": 3},
        "rounds": 2,
        "threads": [1, 2],
        "peer_versions": {"llama.cpp": "0.3.36"},
        "measurements": [asdict(each) for each in MEASUREMENTS],
        "summary": summarize(MEASUREMENTS, logical_cores=2),
    }


def test_each_phase_takes_its_best_thread_count() -> None:
    row = rows()["llama.cpp"]
    assert (row["prompt"]["threads"], row["prompt"]["tokens_per_s"]["median"]) == (2, 220)
    assert (row["decode"]["threads"], row["decode"]["tokens_per_s"]["median"]) == (1, 125)


def test_ratios_are_of_medians_with_the_range_over_rounds() -> None:
    assert rows()["llama.cpp"]["ours_over_it_prompt"] == {"of_medians": 5.0, "min": 5.0, "max": 5.0}
    ratio = rows()["llama.cpp"]["ours_over_it_decode"]
    assert ratio == {"of_medians": 2.0, "min": pytest.approx(200 / 130), "max": 2.5}


def test_an_engine_without_figures_has_a_reason_and_no_ratio() -> None:
    row = rows()["openvino"]
    assert row["prompt"] is None and row["ours_over_it_prompt"] is None
    assert row["reason"] == "type not supported"


def test_the_table_shows_rates_ratios_reasons_and_noise() -> None:
    table = markdown_table(result())
    assert "| m.gguf | madang | 1,100 | 250 |  |  | 50 MB |" in table
    assert "| m.gguf | llama.cpp | 220 | 125 | 5.00× | 2.00× | 50 MB |" in table
    assert "| m.gguf | openvino | n/a | n/a | – | – |  |" in table
    assert "- openvino: n/a, type not supported (m.gguf)" in table
    assert "the best of 1, 2 threads" in table and "commit 0123456789;" in table
    assert "meanwhile: 0.0%. Command" in table


def test_busy_share_counts_others_and_the_hypervisor() -> None:
    counted = Measurement("a", "m.gguf", 0, 2, wall_s=10.0, other_cpu_s=1.0, steal_s=1.0)
    assert busy_share([counted, Measurement("a", "m.gguf", 1, 2, wall_s=5.0)], logical_cores=2) == 0.1
    assert busy_share([], logical_cores=2) == 0.0


def test_rows_measured_on_a_busy_machine_are_marked() -> None:
    document = result()
    document["summary"][1]["others_cpu_share"] = 0.2
    table = markdown_table(document)
    assert "| m.gguf | llama.cpp* |" in table and "| m.gguf | madang |" in table
    assert "above 5% in rows with *" in table


def test_the_readme_keeps_everything_outside_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"head\n{BEGIN}\nold\n{END}\ntail\n")
    update_readme(readme, "new\n")
    update_readme(readme, "newer\n")
    assert readme.read_text() == f"head\n{BEGIN}\nnewer\n{END}\ntail\n"


@pytest.mark.parametrize("text", ["none", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_readme_without_its_markers_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="needs one"):
        update_readme(readme, "new\n")
    assert readme.read_text() == text
