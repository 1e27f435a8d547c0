"""Folders in fewer bits: made by the libraries, loaded by the engine, and nothing left of what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from madang.core.engine import LogitSource
from madang.core.errors import CannotQuantize, InvalidRequest, NotEnoughMemory
from madang.core.settings import load_settings
from madang.quantization.checkpoint_types import CHECKPOINT_TYPES
from madang.quantization.checkpoints import CheckpointJob, needed_memory_bytes, quantize_checkpoint
from madang.quantization.sizing import CalibrationText
from madang.runtime import open_model

pytest.importorskip("torch", reason="such folders are for PyTorch")
pytest.importorskip("bitsandbytes", reason="NF4 and INT8 need bitsandbytes")
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint, write_folder

MODEL = TinyModel("packed", n_embd=128, n_ff=256, n_layers=2)
TEXT = CalibrationText.split("words", "A text of words, which nobody has to understand. " * 120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    checkpoint: Checkpoint = write_checkpoint(MODEL, root / "tiny.gguf")
    write_folder(checkpoint, root / "tiny")
    (root / "tiny" / "notes.txt").write_text("kept")
    return root / "tiny"


@contextmanager
def opened(folder: Path) -> Iterator[LogitSource]:
    settings = load_settings({"engine": "transformers"}, {"MADANG_HOME": str(folder / "home")})
    with closing(open_model(f"file:{folder}", settings)) as engine:
        assert isinstance(engine, LogitSource)
        yield engine


def job_of(folder: Path, name: str, work: Path) -> CheckpointJob:
    return CheckpointJob(folder, CHECKPOINT_TYPES[name], TEXT, opened, work, n_threads=1)


@pytest.mark.parametrize(("name", "method"), [("NF4", "bitsandbytes"), ("INT8", "bitsandbytes")])
def test_bitsandbytes(folder: Path, tmp_path: Path, name: str, method: str) -> None:
    check_made(folder, tmp_path, name, method)


@pytest.mark.parametrize(("name", "method"), [("GPTQ", "gptq"), ("AWQ", "awq")])
def test_gptqmodel(folder: Path, tmp_path: Path, name: str, method: str) -> None:
    pytest.importorskip("gptqmodel", reason="GPTQ and AWQ need gptqmodel: pip install 'madang[gptq]'")
    check_made(folder, tmp_path, name, method)


def check_made(folder: Path, tmp_path: Path, name: str, method: str) -> None:
    told: list[str] = []
    target, work = tmp_path / "made", tmp_path / "work"
    made = quantize_checkpoint(job_of(folder, name, work), target, lambda what, done, total: told.append(what))
    config = json.loads((target / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == method
    assert {**config, "quantization_config": 0} == {
        **json.loads((folder / "config.json").read_text()),
        "quantization_config": 0,
    }
    assert (target / "notes.txt").read_text() == "kept"
    source_bytes = (folder / "model.safetensors").stat().st_size
    assert (target / "model.safetensors").stat().st_size < 0.6 * source_bytes
    certificate = json.loads((target / "certificate.json").read_text())
    assert certificate == json.loads(json.dumps(made.certificate))
    assert 0 < certificate["held_out"]["mean_kl"] < 1
    assert certificate["sha256"].keys() == {"model.safetensors"}
    assert told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "work"]
    assert not list(work.iterdir())
    with pytest.raises(InvalidRequest, match="exists already"):
        quantize_checkpoint(job_of(folder, name, work), target)
    with pytest.raises(CannotQuantize, match="quantized already, by"):
        quantize_checkpoint(job_of(target, name, work), tmp_path / "again")


def test_what_the_process_says_is_told_and_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())

    @contextmanager
    def opened_once(path: Path) -> Iterator[LogitSource]:
        with opened(folder) as engine:
            yield engine
        (broken / "config.json").write_text(json.dumps({**config, "model_type": "nobody-s"}))

    job = replace(job_of(broken, "NF4", tmp_path / "work"), open_folder=opened_once)
    with pytest.raises(CannotQuantize, match="bitsandbytes says: ValueError"):
        quantize_checkpoint(job, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "work"]


def test_a_text_that_is_too_short_is_refused_before_the_work(folder: Path, tmp_path: Path) -> None:
    job = replace(job_of(folder, "NF4", tmp_path / "work"), text=CalibrationText("short", "a" * 600, "b"))
    with pytest.raises(InvalidRequest, match="a chunk needs 512"):
        quantize_checkpoint(job, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_memory_is_counted_before_the_start(folder: Path, tmp_path: Path) -> None:
    """Sparse files of a model that no machine has the memory for."""
    huge = tmp_path / "huge"
    huge.mkdir()
    (huge / "config.json").write_bytes((folder / "config.json").read_bytes())
    n_rows, n_columns = 1 << 20, 1 << 20
    header = json.dumps(
        {
            "model.layers.0.q.weight": {
                "dtype": "F16",
                "shape": [n_rows, n_columns],
                "data_offsets": [0, n_rows * n_columns * 2],
            }
        }
    ).encode()
    with (huge / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + n_rows * n_columns * 2)
    with pytest.raises(NotEnoughMemory, match=r"Quantizing huge to NF4 needs .* of memory, but"):
        quantize_checkpoint(job_of(huge, "NF4", tmp_path / "work"), tmp_path / "made")


def test_calibration_needs_more_memory_than_rounding(folder: Path, tmp_path: Path) -> None:
    from madang.formats.safetensors import read_safetensors
    from madang.quantization.checkpoint_types import settle_recipe

    needs = []
    for name in ("NF4", "GPTQ"):
        recipe = settle_recipe(CHECKPOINT_TYPES[name], read_safetensors(folder), bits=None, group_size=None)
        needs.append(needed_memory_bytes(job_of(folder, name, tmp_path), recipe))
    assert needs[0] < needs[1]
