"""``madang doctor``: this machine once, and machines that are not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.cli.doctor import examine, print_report
from madang.core.settings import SETTINGS, load_settings
from madang.hardware import Bandwidth, Gpu, Machine
from tests.cli.conftest import Madang

STARTER_BYTES = 98_362_432
LAPTOP = Machine(
    system="Linux",
    architecture="x86_64",
    cpu="Some CPU",
    physical_cores=4,
    logical_cores=8,
    isa=("avx2",),
    ram_total_bytes=16 * 10**9,
    ram_available_bytes=10 * 10**9,
    gpus=(Gpu("Some GPU", 8 * 10**9),),
    disk_free_bytes=10**12,
)
BANDWIDTH = Bandwidth(read_bytes_per_s=STARTER_BYTES * 250.0, copy_bytes_per_s=1.0, threads=4, buffer_bytes=1)
NOTHING_KNOWN = Machine(system="Plan 9", architecture="mips")


def told(home: Path, machine: Machine, bandwidth: Bandwidth | None, capsys: pytest.CaptureFixture[str]) -> str:
    environment = {"MADANG_HOME": str(home), "MADANG_THREAD": "2"}
    print_report(examine(load_settings({}, environment), environment, machine, bandwidth))
    return capsys.readouterr().out


def test_this_machine(madang: Madang, home: Path) -> None:
    result = madang("doctor", "--json", MADANG_THREADS="2", MADANG_THREAD="2")
    report = result.json()
    assert result.err == "Measuring how fast memory is read…\n"
    assert report["machine"]["ram_total_bytes"] >= report["machine"]["ram_available_bytes"] > 0
    assert report["machine"]["disk_free_bytes"] > 0
    settings = {row["name"]: (row["value"], row["origin"]) for row in report["settings"]}
    assert settings["threads"] == ("2", "environment")
    assert settings["home"] == (str(home), "environment")
    assert list(settings) == [setting.name for setting in SETTINGS]
    assert report["unknown_variables"] == {"MADANG_THREAD": "MADANG_THREADS"}
    assert {engine["name"] for engine in report["engines"]} >= {"native", "echo"}
    assert report["models"][0]["name"] == "smollm2:135m"


def test_people_are_told_what_it_means(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(home, LAPTOP, BANDWIDTH, capsys)
    for words in ("Some CPU", "4 cores, 8 threads", "24.6 GB/s with 4 threads", "Some GPU (8.00 GB)", "1.00 TB free"):
        assert words in text
    assert "smollm2:135m  98.4 MB  at most 250 tokens/s" in text
    assert "Model files up to about 8.57 GB fit into memory now." in text
    assert "MADANG_THREAD is set, but there is no such setting; did you mean MADANG_THREADS?" in text


def test_what_is_unknown_is_called_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(home, NOTHING_KNOWN, None, capsys)
    assert text.count("unknown") >= 8
    assert "fit into memory" not in text


def test_a_model_that_does_not_fit_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Machine(system="Linux", architecture="armv7l", ram_available_bytes=160_000_000, gpus=())
    text = told(home, tiny, BANDWIDTH, capsys)
    assert "smollm2:135m  98.4 MB  does not fit" in text
    assert "none found" in text
