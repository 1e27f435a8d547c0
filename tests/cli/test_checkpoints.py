"""``madang quantize --type NF4`` and the like: what people type and what they get."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import Madang

pytest.importorskip("bitsandbytes", reason="NF4 needs bitsandbytes")
from tests.parity.checkpoints import TinyModel, write_checkpoint

MODEL = TinyModel("packed", n_embd=128, n_ff=256, n_layers=2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(MODEL, tmp_path / "tiny.gguf").path


def test_a_gguf_file_becomes_a_folder_of_the_store_that_runs(madang: Madang, source: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A text of words, which nobody has to understand. " * 120)
    arguments = ("--type", "fp4", "--text", str(text), "--threads", "1", "--json")
    result = madang("quantize", str(source), "mine:fp4", *arguments)
    assert result.status == 0, result.err
    document = result.json()
    assert document["name"] == "mine:fp4"
    assert document["type"] == "FP4"
    assert document["certificate"]["held_out"]["mean_kl"] > 0
    answer = madang("run", "mine:fp4", "a", "--raw", "--max-tokens", "2", "--threads", "1", "--context", "64")
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--type", "NF4", "--pure"), "--pure makes no sense with --type NF4"),
        (("--type", "NF4", "--size", "1MB"), "--size makes no sense with --type NF4"),
        (("--type", "NF4", "--bits", "3"), "NF4 has 4 bits, not 3"),
        (("--type", "NF4", "--group-size", "64"), "NF4 has no groups to choose"),
        (("--type", "Q4_0", "--group-size", "64"), "--group-size is for --type GPTQ and AWQ"),
        (("--type", "NF5"), "no preset named 'NF5'"),
        (("--type", "NF4", "--held-out", "tiny.gguf"), "--held-out without --text"),
    ],
)
def test_what_cannot_be(madang: Madang, source: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = madang("quantize", str(source), *arguments)
    assert result.status in (1, 2)
    assert problem in result.err
    assert [path.name for path in source.parent.iterdir() if path.name != "home"] == ["tiny.gguf"]


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="gptqmodel is installed here")
def test_what_is_missing_is_named_with_the_command(madang: Madang, source: Path) -> None:
    result = madang("quantize", str(source), "--type", "GPTQ")
    assert result.status != 0
    assert "--type GPTQ needs" in result.err
    assert "pip install 'madang[gptq]'" in result.err
