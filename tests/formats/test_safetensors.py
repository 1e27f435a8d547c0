"""safetensors: files and folders against the reference implementation, and everything that must be refused."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madang.core.errors import MadangError, MalformedFile, ModelNotFound, UnsupportedModel
from madang.formats.safetensors import INDEX_FILE, SINGLE_FILE, read_safetensors
from madang.formats.tensors import TensorInfo, TensorType
from tests.formats.malformed.safetensors_files import DEFECTS, VALID, Defect, entry, safetensors

SHARD = "model-00001-of-00001.safetensors"
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8]
NUMPY = {TensorType.F64: "<f8", TensorType.F32: "<f4", TensorType.F16: "<f2", TensorType.I64: "<i8"} | {
    TensorType.I32: "<i4",
    TensorType.I16: "<i2",
    TensorType.I8: "i1",
}


def _stored(info: TensorInfo) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    content = info.path.read_bytes()[info.offset_bytes : info.offset_bytes + info.size_bytes]
    return np.frombuffer(content, NUMPY[info.type]).reshape(info.shape)


@given(
    st.dictionaries(
        # "__metadata__" cannot name a tensor, and Hypothesis finds it in our source.
        st.text(st.characters(categories=["L", "N", "P"]), min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4)),
        max_size=6,
    )
)
def test_equals_reference(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, tuple[type[np.generic], list[int]]]
) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    arrays = {
        name: np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
        for name, (dtype, shape) in tensors.items()
    }
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    reference.save_file(arrays, path, metadata={"format": "np"})
    ours = read_safetensors(path)
    assert ours.keys() == arrays.keys()
    for name, array in arrays.items():
        assert ours[name].name == name
        assert _stored(ours[name]).dtype == array.dtype
        assert np.array_equal(_stored(ours[name]), array)


def test_bfloat16_and_scalars(tmp_path: Path) -> None:
    path = tmp_path / "valid.safetensors"
    path.write_bytes(VALID)
    ours = read_safetensors(str(path))
    data_start = len(VALID) - 56
    assert ours["bias"] == TensorInfo("bias", TensorType.BF16, (4,), path, data_start + 40)
    assert ours["ids"] == TensorInfo("ids", TensorType.I64, (), path, data_start + 48)
    assert ours["nothing"].size_bytes == 0
    assert ours["가중치"].shape == (3, 4)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_defect_is_refused(tmp_path: Path, defect: Defect) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(defect.content)
    with pytest.raises(MalformedFile) as caught:
        read_safetensors(path)
    assert defect.problem in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("dtype", "n"), [("F8_E4M3", 16), ("BOOL", 16), ("U16", 8), ("F4", 32), ("C64", 2)])
def test_a_dtype_that_nobody_reads_is_an_error_only_when_asked_for(tmp_path: Path, dtype: str, n: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors({"mask": entry(dtype, [n]), "a": entry("F32", [4], 16, 32)}, 32))
    ours = read_safetensors(path)
    assert list(ours) == ["mask", "a"]
    assert ours["a"].shape == (4,)
    with pytest.raises(UnsupportedModel, match=f"dtype {dtype}, which tensor 'mask' in model.safetensors has"):
        ours["mask"]


def test_defects_are_distinct() -> None:
    assert len({defect.name for defect in DEFECTS}) == len({defect.content for defect in DEFECTS}) == len(DEFECTS)


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """The valid file after one to three changes; the header length is kept right half of the time."""
    header, data = bytearray(VALID[8:-56]), bytearray(VALID[-56:])
    for _ in range(draw(st.integers(1, 3))):
        part = header if draw(st.integers(0, 9)) else data
        at = draw(st.integers(0, len(part)))
        kind = draw(st.sampled_from(["byte", "number", "truncate", "insert", "splice"]))
        if kind == "byte" and at < len(part):
            part[at] = draw(st.integers(0, 255))
        elif kind == "number":
            part[at : at + 1] = draw(st.sampled_from([b"-1", b"1e3", b"null", b"18446744073709551616", b"[", b"0"]))
        elif kind == "truncate":
            del part[at:]
        elif kind == "insert":
            part[at:at] = draw(st.binary(max_size=16))
        elif kind == "splice":
            source = draw(st.integers(0, len(part)))
            part[at : at + draw(st.integers(0, 60))] = part[source : source + 60]
    n_bytes = len(header) if draw(st.booleans()) else len(VALID) - 64
    return bytes(safetensors(bytes(header), header_bytes=n_bytes) + data)


@settings(max_examples=400)
@given(mutated_files())
@example(VALID)
def test_what_is_accepted_the_reference_accepts(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    reference = pytest.importorskip("safetensors")
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        ours = read_safetensors(path)
    except MadangError as error:
        assert error.message.isprintable()
    else:
        theirs = {name: (info["shape"], len(info["data"])) for name, info in reference.deserialize(content)}
        assert {name: (list(info.shape), info.size_bytes) for name, info in ours.items()} == theirs
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 32 * len(content) + 256 * 1024


def _write_sharded(folder: Path, weight_map: object, shards: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in shards.items():
        (folder / name).write_bytes(content)
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": weight_map}))


def test_sharded_folder(tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    shards = {
        first: safetensors({"a": entry()}, 16),
        second: safetensors({"b": entry(), "c": entry("I64", [1], 16, 24)}, 24),
    }
    _write_sharded(tmp_path, {"c": second, "a": first, "b": second}, shards)
    ours = read_safetensors(tmp_path)
    assert {name: info.path.name for name, info in ours.items()} == {"a": first, "b": second, "c": second}
    assert ours["c"].offset_bytes == len(shards[second]) - 8


def test_folder_with_one_file(tmp_path: Path) -> None:
    (tmp_path / SINGLE_FILE).write_bytes(VALID)
    assert read_safetensors(tmp_path).keys() == {"가중치", "a", "bias", "ids", "nothing"}


def test_folder_of_links_is_read(tmp_path: Path) -> None:
    """Download caches keep the bytes elsewhere and fill the folder with links."""
    (tmp_path / "blob").write_bytes(VALID)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    try:
        (folder / SINGLE_FILE).symlink_to(tmp_path / "blob")
    except OSError:
        pytest.skip("this system does not let us make links")
    assert "a" in read_safetensors(folder)


@pytest.mark.parametrize(
    "shard",
    [
        *("../outside.safetensors", "/etc/x.safetensors", "a/b.safetensors", "a\\b.safetensors", "C:x.safetensors"),
        *("..", "", "x\0.safetensors", "pytorch_model.bin", 7, None, ["x.safetensors"], {"a": "b"}),
    ],
)
def test_shard_outside_the_folder_is_refused(tmp_path: Path, shard: object) -> None:
    (tmp_path / "outside.safetensors").write_bytes(safetensors({"a": entry()}, 16))
    _write_sharded(tmp_path / "model", {"a": shard}, {})
    with pytest.raises(MalformedFile, match="expected a plain file name ending in"):
        read_safetensors(tmp_path / "model")


def test_index_that_does_not_fit_its_shards(tmp_path: Path) -> None:
    _write_sharded(tmp_path, {"a": SHARD}, {})
    with pytest.raises(MalformedFile, match=f"shard '{SHARD}' is missing"):
        read_safetensors(tmp_path)
    _write_sharded(tmp_path, {"b": SHARD}, {SHARD: safetensors({"a": entry()}, 16)})
    with pytest.raises(MalformedFile, match=f"puts tensor 'b' into '{SHARD}', which does not have it"):
        read_safetensors(tmp_path)
    _write_sharded(tmp_path, {"a": SHARD}, {SHARD: b"damaged"})
    with pytest.raises(MalformedFile, match=f"{SHARD} is not a valid model file"):
        read_safetensors(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "not a JSON object"),
        ("{}", "has no object 'weight_map'"),
        ('{"weight_map": ["a"]}', "has no object 'weight_map'"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "the key 'a' occurs twice"),
    ],
)
def test_malformed_index(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / INDEX_FILE).write_text(content)
    with pytest.raises(MalformedFile) as caught:
        read_safetensors(tmp_path)
    assert problem in caught.value.problem


def test_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "no" / "none.safetensors", tmp_path / "nul\0"):
        with pytest.raises(ModelNotFound):
            read_safetensors(path)
    with pytest.raises(MalformedFile, match="the folder has neither"):
        read_safetensors(tmp_path)
    (tmp_path / SINGLE_FILE).touch()
    with pytest.raises(MalformedFile, match="it is empty"):
        read_safetensors(tmp_path)


def test_tensor_data_is_not_read(tmp_path: Path) -> None:
    """A sparse file of 1 TB: reading any of its data section would take minutes."""
    path = tmp_path / "sparse.safetensors"
    path.write_bytes(safetensors({"huge": entry("F32", [2**20, 2**18], 0, 2**40)}))
    try:
        os.truncate(path, path.stat().st_size + 2**40)
    except OSError:
        pytest.skip("this file system has no sparse files of 1 TB")
    assert read_safetensors(path)["huge"].size_bytes == 2**40
