"""``madang quantize`` from files and names, to files and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from tests.cli.conftest import Madang
from tests.parity.checkpoints import TinyModel, write_checkpoint

MODEL = TinyModel("wide", n_heads=8, n_kv_heads=4, head_dim=32, n_embd=256, n_ff=288)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(MODEL, tmp_path / "wide.gguf").path


def test_a_file_beside_its_source(madang: Madang, source: Path) -> None:
    result = madang("quantize", str(source), "--type", "q4_k_m", "--threads", "1")
    target = source.with_name("wide.Q4_K_M.gguf")
    assert result.status == 0
    assert str(target) in result.out
    assert "rows of 288 columns cannot have Q4_K" in result.err
    file = read_gguf(target)
    assert file.tensors["blk.0.ffn_up.weight"].type is TensorType.Q4_K
    assert file.tensors["blk.0.ffn_down.weight"].type is TensorType.Q5_0
    assert file.metadata["general.file_type"] == 15


def test_a_name_of_the_store_that_runs(madang: Madang, source: Path) -> None:
    result = madang("quantize", str(source), "mine:q8", "--type", "Q8_0", "--threads", "1", "--json")
    assert result.json()["name"] == "mine:q8"
    assert result.json()["source"] == f"quantized from file:{source}"
    assert madang("list", "--json").json()["models"][0]["name"] == "mine:q8"
    again = madang("quantize", "mine:q8", "--type", "Q4_0", "--threads", "1")
    assert "mine:q8-q4_0" in again.out
    assert "quantized already (Q8_0)" in again.err
    answer = madang("run", "mine:q8-q4_0", "a", "--raw", "--max-tokens", "2", "--threads", "1", "--context", "64")
    assert answer.status == 0
    assert not list((source.parent / "home" / "models" / "partial").iterdir())


def test_pure(madang: Madang, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "pure.gguf"
    assert madang("quantize", str(source), str(target), "--type", "Q4_K_M", "--pure", "--threads", "1").status == 0
    types = {tensor.type for tensor in read_gguf(target).tensors.values() if len(tensor.shape) > 1}
    assert types == {TensorType.Q4_K, TensorType.Q5_0}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--type", "Q4_K_X"), "no preset named 'Q4_K_X'"),
        (("wide.gguf",), "The target is the source itself"),
        (("hf:some/repo",), "hf:some/repo cannot be written to"),
        (("--importance", "nothing.gguf"), "There is no model 'nothing.gguf'"),
        (("--importance", "wide.gguf"), "it is no importance matrix"),
    ],
)
def test_what_cannot_be(
    madang: Madang,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(source.parent)
    result = madang("quantize", str(source), *arguments)
    assert result.status in (1, 2)
    assert problem in result.err
    assert [path.name for path in source.parent.glob("*.gguf")] == ["wide.gguf"]
