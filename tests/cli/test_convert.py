"""``madang convert`` and ``madang audit``: what they print, where they write, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.formats.gguf import read_gguf
from tests.cli.conftest import Madang
from tests.formats.adapters.files import random_adapter, write_peft
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_checkpoint(TinyModel("tiny"), tmp_path / "tiny.gguf").path


@pytest.fixture
def folder(gguf: Path, tmp_path: Path) -> Path:
    write_folder(write_checkpoint(TinyModel("tiny"), tmp_path / "same.gguf"), tmp_path / "source")
    return tmp_path / "source"


def test_a_folder_becomes_a_file_beside_it(madang: Madang, folder: Path) -> None:
    result = madang("convert", str(folder), "--json")
    assert result.status == 0, result.err
    target = folder.with_name("source.gguf")
    assert result.json() == {
        "name": f"file:{target}",
        "path": str(target),
        "size_bytes": target.stat().st_size,
    }
    assert read_gguf(target).architecture == "llama"
    assert "Converting" in result.err


def test_a_file_becomes_a_folder(madang: Madang, gguf: Path, tmp_path: Path) -> None:
    assert madang("convert", str(gguf), str(tmp_path / "out"), "--to", "hf", "--dtype", "bf16").status == 0
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    again = madang("convert", str(gguf), str(tmp_path / "out"))
    assert again.status == 2
    assert "exists already" in again.err


def test_into_the_store_and_back(madang: Madang, folder: Path) -> None:
    first = madang("convert", str(folder), "mine:tiny", "--dtype", "q8_0", "--json")
    assert first.status == 0, first.err
    assert first.json()["name"] == "mine:tiny"
    second = madang("convert", "mine:tiny")
    assert second.status == 0, second.err
    assert "what that lost stays lost" in second.err
    listed = {model["name"]: model["format"] for model in madang("list", "--json").json()["models"]}
    assert listed == {"mine:tiny": "gguf", "mine:tiny-hf": "huggingface"}
    answer = madang("run", "mine:tiny-hf", "a", "--max-tokens", "2", "--json")
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--to", "onnx"], "no format named 'onnx'"),
        (["--to", "hf"], "in that format already"),
        (["--dtype", "q4_k"], "no type named 'q4_k'"),
    ],
)
def test_what_makes_no_sense(madang: Madang, folder: Path, tmp_path: Path, args: list[str], words: str) -> None:
    before = sorted(tmp_path.iterdir())
    result = madang("convert", str(folder), *args)
    assert result.status == 2
    assert words in result.err
    assert sorted(tmp_path.iterdir()) == before


def test_an_adapter(madang: Madang, gguf: Path, tmp_path: Path) -> None:
    weights = write_checkpoint(TinyModel("tiny"), tmp_path / "same.gguf").weights
    adapter = write_peft(random_adapter(weights, 1), tmp_path / "mine")
    result = madang("convert", str(adapter), "--base", str(gguf), "--json")
    assert result.status == 0, result.err
    assert result.json()["path"] == str(tmp_path / "mine.gguf")
    assert madang("convert", str(tmp_path / "mine.gguf"), "--base", str(gguf)).status == 0
    assert (tmp_path / "mine-hf" / "adapter_config.json").is_file()


def test_an_audit(madang: Madang, gguf: Path) -> None:
    result = madang("audit", str(gguf))
    assert "bits per weight" in result.out
    assert "F32" in result.out
    found = madang("audit", str(gguf), "--json").json()
    assert found["bits_per_weight"] == 32
    assert found["divergence"] is None


def test_an_audit_against_a_reference(madang: Madang, gguf: Path, folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox. " * 60)
    madang("convert", str(folder), str(tmp_path / "small.gguf"), "--dtype", "q8_0")
    options = ("--against", str(gguf), "--text", str(text), "--chunks", "1", "--json")
    result = madang("audit", str(tmp_path / "small.gguf"), *options)
    measured = result.json()["divergence"]
    assert 0 < measured["mean_kl"] < 0.1
    assert measured["chunks"] == 1
    alone = madang("audit", str(gguf), "--against", str(gguf))
    assert alone.status == 2


def test_a_file_with_an_error_has_another_status(madang: Madang, gguf: Path) -> None:
    content = bytearray(gguf.read_bytes())
    norm = read_gguf(gguf).tensors["output_norm.weight"]
    content[norm.offset_bytes : norm.offset_bytes + 4] = b"\xff\xff\xff\xff"
    gguf.write_bytes(content)
    result = madang("audit", str(gguf))
    assert result.status == 1
    assert "error: 'output_norm.weight' holds values that are no weights" in result.out
