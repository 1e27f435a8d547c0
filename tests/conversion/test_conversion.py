"""Types, sizes and names of converted files, and everything that goes wrong without leaving anything behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.conversion import to_folder, to_gguf
from madang.conversion.streams import values_of
from madang.core.errors import CannotConvert, InvalidRequest, MalformedFile, NotEnoughDisk
from madang.core.progress import SilentProgress
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.safetensors import read_safetensors
from madang.formats.tensors import TensorType
from tests.native.reference import Array
from tests.parity.checkpoints import TinyModel, write_checkpoint, write_folder

safetensors = pytest.importorskip("safetensors.numpy")

F32, F16, BF16, Q8_0 = TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0
# Rows of ffn_down are no whole blocks of Q8_0.
MODEL = TinyModel("converted", n_ff=80)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    return write_checkpoint(MODEL, path).path


@pytest.fixture(scope="module")
def folder(gguf: Path) -> Path:
    checkpoint = write_checkpoint(MODEL, gguf.with_name("again.gguf"))
    path = gguf.with_name("folder")
    write_folder(checkpoint, path)
    return path


def types_of(path: Path) -> dict[str, TensorType]:
    return {name: tensor.type for name, tensor in read_gguf(path).tensors.items()}


@pytest.mark.parametrize(("chosen", "file_type"), [(F32, 0), (F16, 1), (BF16, 32), (Q8_0, 7)])
def test_types(folder: Path, tmp_path: Path, chosen: TensorType, file_type: int) -> None:
    path = tmp_path / "a.gguf"
    written = to_gguf(folder, path, chosen)
    types = types_of(path)
    assert written.size_bytes == path.stat().st_size
    assert types["blk.0.attn_q.weight"] == types["token_embd.weight"] == chosen
    assert types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == F32
    assert types["blk.0.ffn_down.weight"] == (F16 if chosen == Q8_0 else chosen)
    assert read_gguf(path).require_int("general.file_type") == file_type


@pytest.mark.parametrize(("chosen", "error"), [(F32, 0.0), (F16, 2**-11), (BF16, 2**-8), (Q8_0, 2**-6)])
def test_values(folder: Path, gguf: Path, tmp_path: Path, chosen: TensorType, error: float) -> None:
    path = tmp_path / "a.gguf"
    to_gguf(folder, path, chosen)
    expected = {name: values_of(tensor) for name, tensor in describe_gguf(read_gguf(gguf)).tensors.items()}
    found = {name: values_of(tensor) for name, tensor in describe_gguf(read_gguf(path)).tensors.items()}
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() <= error * np.abs(values).max(), name


def test_the_type_of_the_folder_is_kept(gguf: Path, tmp_path: Path) -> None:
    to_folder(gguf, tmp_path / "half", BF16)
    to_gguf(tmp_path / "half", tmp_path / "a.gguf")
    assert types_of(tmp_path / "a.gguf")["blk.0.attn_q.weight"] == BF16
    to_folder(tmp_path / "a.gguf", tmp_path / "again")
    assert {tensor.type for tensor in read_safetensors(tmp_path / "again").values()} == {BF16}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_file_is_named(folder: Path, tmp_path: Path) -> None:
    to_gguf(folder, tmp_path / "a.gguf")
    assert read_gguf(tmp_path / "a.gguf").require_str("general.name") == "folder"
    to_gguf(folder, tmp_path / "a.gguf", name="mine:1b")
    assert read_gguf(tmp_path / "a.gguf").require_str("general.name") == "mine:1b"


def test_shards(gguf: Path, tmp_path: Path) -> None:
    """A folder in several files is the same model; a tensor larger than a shard has one of its own."""
    to_folder(gguf, tmp_path / "one", F32)
    to_folder(gguf, tmp_path / "many", F32, shard_bytes=30_000)
    names = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(names)
    one, many = read_safetensors(tmp_path / "one"), read_safetensors(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(np.array_equal(values_of(one[name]), values_of(many[name])) for name in one)
    loaded = safetensors.load_file(tmp_path / "one" / "model.safetensors")
    assert np.array_equal(loaded["model.norm.weight"], values_of(one["model.norm.weight"]))
    to_gguf(tmp_path / "many", tmp_path / "a.gguf")
    assert types_of(tmp_path / "a.gguf").keys() == types_of(gguf).keys()


# ---- what goes wrong


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def assert_nothing(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_missing_tokenizer(folder: Path, tmp_path: Path) -> None:
    source = copy_of(folder, tmp_path / "source")
    (source / "tokenizer.json").unlink()
    with pytest.raises(CannotConvert, match=r"has no tokenizer\.json"):
        to_gguf(source, tmp_path / "a.gguf")
    assert_nothing(tmp_path, "source")


def test_a_missing_shard_and_one_that_was_cut_off(gguf: Path, tmp_path: Path) -> None:
    to_folder(gguf, tmp_path / "many", F32, shard_bytes=30_000)
    shard = sorted((tmp_path / "many").glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(MalformedFile, match="model-00002-of-"):
        to_gguf(tmp_path / "many", tmp_path / "a.gguf")
    shard.unlink()
    with pytest.raises(MalformedFile, match="model-00002-of-"):
        to_gguf(tmp_path / "many", tmp_path / "a.gguf")
    assert_nothing(tmp_path, "many")


def test_something_that_is_there_already(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InvalidRequest, match="exists already"):
        to_folder(gguf, tmp_path / "a")
    assert_nothing(tmp_path, "a")


class _Interrupting(SilentProgress):
    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._n_calls = 0

    def advanced(self, n_bytes: int) -> None:
        self._n_calls += 1
        if self._n_calls == 3:
            raise self._error


@pytest.mark.parametrize(
    ("error", "seen"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), NotEnoughDisk)],
)
def test_an_interrupted_conversion(
    gguf: Path, folder: Path, tmp_path: Path, error: BaseException, seen: type[BaseException]
) -> None:
    (tmp_path / "a.gguf").write_text("old")
    with pytest.raises(seen):
        to_gguf(folder, tmp_path / "a.gguf", progress=_Interrupting(error))
    with pytest.raises(seen):
        to_folder(gguf, tmp_path / "b", progress=_Interrupting(error))
    assert_nothing(tmp_path, "a.gguf")
    assert (tmp_path / "a.gguf").read_text() == "old"


@pytest.mark.parametrize("chosen", [TensorType.Q4_K, TensorType.I8])
def test_types_that_are_not_written(folder: Path, gguf: Path, tmp_path: Path, chosen: TensorType) -> None:
    with pytest.raises(InvalidRequest, match=chosen.name):
        to_gguf(folder, tmp_path / "a.gguf", chosen)
    with pytest.raises(InvalidRequest, match=chosen.name):
        to_folder(gguf, tmp_path / "b", chosen)
    assert_nothing(tmp_path)


def test_divisors_that_config_json_cannot_say(tmp_path: Path) -> None:
    """GGUF may divide frequencies by anything; Llama 3's scaling is one of the few that a folder has words for."""
    divided = TinyModel("divided", scaling={"rope_type": "llama3", **LLAMA3})
    path = write_checkpoint(divided, tmp_path / "a.gguf").path
    to_folder(path, tmp_path / "b")
    rope = json.loads((tmp_path / "b" / "config.json").read_text())["rope_parameters"]
    assert {key: rope[key] for key in LLAMA3} == LLAMA3
    tensor = read_gguf(path).tensors["rope_freqs.weight"]
    with path.open("r+b") as file:
        file.seek(tensor.offset_bytes)
        file.write(np.linspace(1, 7, tensor.n_elements, dtype="<f4").tobytes())
    with pytest.raises(CannotConvert, match="divisors"):
        to_folder(path, tmp_path / "c")
    assert_nothing(tmp_path, "a.gguf", "b")


LLAMA3: dict[str, Any] = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def test_rotations(folder: Path, tmp_path: Path) -> None:
    """Every scaling of config.json, to GGUF and back."""
    config = json.loads((folder / "config.json").read_text())
    scalings: list[dict[str, Any]] = [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128, "attention_factor": 1.5},
        {"rope_type": "llama3", **LLAMA3},
    ]
    for number, scaling in enumerate(scalings):
        source = copy_of(folder, tmp_path / f"source-{number}")
        (source / "config.json").write_text(json.dumps({**config, "rope_scaling": scaling}))
        to_gguf(source, tmp_path / f"{number}.gguf")
        to_folder(tmp_path / f"{number}.gguf", tmp_path / f"back-{number}")
        back = json.loads((tmp_path / f"back-{number}" / "config.json").read_text())["rope_parameters"]
        assert back.pop("rope_type") == scaling.pop("rope_type")
        assert {key: back[key] for key in scaling} == pytest.approx(scaling)


def test_permutation_is_its_own_way_back(gguf: Path, folder: Path, tmp_path: Path) -> None:
    """Rows of query and key lie otherwise in the file, and as before in the folder that comes of it."""
    to_gguf(folder, tmp_path / "a.gguf", F32)
    to_folder(tmp_path / "a.gguf", tmp_path / "b", F32)
    before, after = read_safetensors(folder), read_safetensors(tmp_path / "b")
    name = "model.layers.0.self_attn.q_proj.weight"
    in_file: Array = values_of(read_gguf(tmp_path / "a.gguf").tensors["blk.0.attn_q.weight"])
    assert not np.array_equal(in_file, values_of(before[name]))
    assert np.array_equal(values_of(after[name]), values_of(before[name]))
    assert np.array_equal(in_file, values_of(read_gguf(gguf).tensors["blk.0.attn_q.weight"]))
