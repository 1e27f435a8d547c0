"""Whole files in other types: what is copied, what changes, what is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from madang.core.errors import CannotQuantize
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.gguf_writing import TensorToWrite, write_gguf
from madang.formats.reading import OpenFile
from madang.formats.tensors import TensorInfo, TensorType
from madang.quantization.encoding import BLOCK_TYPES, dequantize, quantize
from madang.quantization.quantizing import quantize_file
from tests.parity.checkpoints import TinyModel, write_checkpoint

Matrix = npt.NDArray[np.float32]
WIDE = TinyModel("wide", n_heads=8, n_kv_heads=4, head_dim=32, n_embd=256, n_ff=512)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    return read_gguf(write_checkpoint(WIDE, tmp_path_factory.mktemp("source") / "wide.gguf").path)


def matrices(source: GGUFFile) -> list[TensorInfo]:
    return [tensor for tensor in source.tensors.values() if len(tensor.shape) == 2]


def content(tensor: TensorInfo) -> npt.NDArray[np.uint8]:
    begin, end = tensor.file_range
    with OpenFile(tensor.path) as file:
        return file.read(begin, end - begin)


def values(tensor: TensorInfo) -> Matrix:
    return dequantize(content(tensor).reshape(int(np.prod(tensor.shape[:-1])), -1), tensor.type)


@pytest.mark.parametrize("tensor_type", [TensorType.F16, *BLOCK_TYPES], ids=lambda tensor_type: tensor_type.name)
def test_every_type(source: GGUFFile, tmp_path: Path, tensor_type: TensorType) -> None:
    types = {tensor.name: tensor_type for tensor in matrices(source)}
    importance = {"blk.1.ffn_down.weight": np.linspace(0, 9, 512, dtype=np.float32)}
    done = quantize_file(source, tmp_path / "q.gguf", types, importance=importance, n_threads=2, file_type=7)
    result = read_gguf(tmp_path / "q.gguf")
    assert list(result.tensors) == list(source.tensors)
    for name, tensor in result.tensors.items():
        before = source.tensors[name]
        assert tensor.shape == before.shape
        if name not in types:
            assert np.array_equal(content(tensor), content(before))
            continue
        expected = quantize(values(before), tensor_type, importance=importance.get(name), n_threads=1)
        assert tensor.type is tensor_type
        assert np.array_equal(content(tensor), expected.reshape(-1))
    assert done.n_tensors[tensor_type] == len(types)
    assert done.n_weighted == (tensor_type is not TensorType.F16)
    assert done.was_quantized == ()
    assert done.written.size_bytes == (tmp_path / "q.gguf").stat().st_size


def test_metadata_is_kept(source: GGUFFile, tmp_path: Path) -> None:
    types = {tensor.name: TensorType.Q8_0 for tensor in matrices(source)}
    quantize_file(source, tmp_path / "q.gguf", types, n_threads=1, file_type=7, metadata={"quantize.by": "me"})
    result = dict(read_gguf(tmp_path / "q.gguf").metadata)
    assert result.pop("general.file_type") == 7
    assert result.pop("general.quantization_version") == 2
    assert result.pop("quantize.by") == "me"
    before = {key: value for key, value in source.metadata.items() if key not in ("general.file_type",)}
    before.pop("general.quantization_version", None)
    assert result.keys() == before.keys()
    for key, value in before.items():
        assert np.array_equal(result[key], value)


def test_rows_come_out_the_same_in_any_number_of_pieces(tmp_path: Path) -> None:
    """More values than are read at once, in rows of which few fit."""
    x = np.random.default_rng(0).standard_normal((70, 65536 + 256)).astype(np.float32)
    rows = TensorToWrite("output.weight", TensorType.F32, x.shape, lambda: x)
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"}, [rows])
    source = read_gguf(tmp_path / "x.gguf")
    quantize_file(source, tmp_path / "q.gguf", {"output.weight": TensorType.Q4_0}, n_threads=2)
    tensor = read_gguf(tmp_path / "q.gguf").tensors["output.weight"]
    assert np.array_equal(content(tensor), quantize(x, TensorType.Q4_0, n_threads=2).reshape(-1))


def test_each_expert_has_an_importance_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 256)).astype(np.float32)
    weights = np.exp(2 * rng.standard_normal((3, 256))).astype(np.float32)
    weights[1] = 0  # never taken
    name = "blk.0.ffn_up_exps.weight"
    tensor = TensorToWrite(name, TensorType.F32, x.shape, lambda: x)
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"}, [tensor])
    source, target = read_gguf(tmp_path / "x.gguf"), tmp_path / "q.gguf"
    quantize_file(source, target, {name: TensorType.Q4_K}, importance={name: weights}, n_threads=1)
    found = content(read_gguf(target).tensors[name]).reshape(3, 4, -1)
    for expert in range(3):
        own = None if expert == 1 else weights[expert]
        assert np.array_equal(found[expert], quantize(x[expert], TensorType.Q4_K, importance=own, n_threads=1))


def test_a_source_of_few_bits_is_told(source: GGUFFile, tmp_path: Path) -> None:
    first = {tensor.name: TensorType.Q4_0 for tensor in matrices(source)}
    quantize_file(source, tmp_path / "a.gguf", first, n_threads=1)
    again = read_gguf(tmp_path / "a.gguf")
    same = quantize_file(again, tmp_path / "b.gguf", first, n_threads=1)
    assert same.was_quantized == ()
    assert (tmp_path / "a.gguf").read_bytes()[-1000:] == (tmp_path / "b.gguf").read_bytes()[-1000:]
    other = quantize_file(again, tmp_path / "c.gguf", dict.fromkeys(first, TensorType.Q8_0), n_threads=1)
    assert other.was_quantized == (TensorType.Q4_0,)


def _misaligned(source: GGUFFile, target: Path) -> None:
    quantize_file(source, target, {"token_embd.weight": TensorType.Q6_K}, n_threads=1)


def _unwritable(source: GGUFFile, target: Path) -> None:
    quantize_file(source, target, {"token_embd.weight": TensorType.IQ2_XS}, n_threads=1)


def _bad_importance(source: GGUFFile, target: Path) -> None:
    weights = {"token_embd.weight": np.ones(7, np.float32)}
    quantize_file(source, target, {"token_embd.weight": TensorType.Q8_0}, importance=weights, n_threads=1)


@pytest.mark.parametrize(
    ("attempt", "problem"),
    [
        (_misaligned, "Q6_K has blocks of 256 columns, these rows have 96"),
        (_unwritable, "does not write the type IQ2_XS"),
        (_bad_importance, r"shape \(7,\), expected \(96,\)"),
    ],
)
def test_what_cannot_be_is_refused_with_the_tensor(
    tmp_path: Path, attempt: Callable[[GGUFFile, Path], None], problem: str
) -> None:
    model = TinyModel("narrow", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=96, n_ff=64)
    narrow = read_gguf(write_checkpoint(model, tmp_path / "narrow.gguf").path)
    target = tmp_path / "q.gguf"
    target.write_bytes(b"what was here before")
    with pytest.raises(CannotQuantize, match=problem) as caught:
        attempt(narrow, target)
    assert "token_embd.weight" in caught.value.message
    assert target.read_bytes() == b"what was here before"
    assert {path.name for path in tmp_path.iterdir()} == {"narrow.gguf", "q.gguf"}


def test_a_weight_that_is_not_a_number_leaves_the_old_file(tmp_path: Path) -> None:
    x = np.zeros((4, 64), np.float32)
    x[2, 5] = np.nan
    tensors = [TensorToWrite(name, TensorType.F32, (4, 64), lambda: x) for name in ("a.weight", "b.weight")]
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "llama"}, tensors)
    target = tmp_path / "q.gguf"
    target.write_bytes(b"what was here before")
    with pytest.raises(CannotQuantize, match=r"'a\.weight'"):
        quantize_file(read_gguf(tmp_path / "x.gguf"), target, {"a.weight": TensorType.Q4_0}, n_threads=1)
    assert target.read_bytes() == b"what was here before"
    assert {path.name for path in tmp_path.iterdir()} == {"x.gguf", "q.gguf"}


def test_an_interruption_leaves_the_old_file(source: GGUFFile, tmp_path: Path) -> None:
    class Interrupting:
        def started(self, total_bytes: int | None) -> None:
            pass

        def advanced(self, n_bytes: int) -> None:
            assert len(list(tmp_path.iterdir())) == 2
            raise KeyboardInterrupt

        def finished(self) -> None:
            pass

    target = tmp_path / "q.gguf"
    target.write_bytes(b"what was here before")
    types = {tensor.name: TensorType.Q4_K for tensor in matrices(source)}
    with pytest.raises(KeyboardInterrupt):
        quantize_file(source, target, types, n_threads=1, progress=Interrupting())
    assert target.read_bytes() == b"what was here before"
    assert [path.name for path in tmp_path.iterdir()] == ["q.gguf"]
