"""Valid GGUF files, against the reference implementation; malformed ones are in test_gguf_malformed.py."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import MalformedFile, ModelError, ModelNotFound
from madang.formats.gguf import MAX_HEADER_BYTES, GGUFFile, read_gguf
from madang.formats.tensors import TensorType
from tests.formats.malformed import gguf_files

gguf = pytest.importorskip("gguf")


def _assert_equals_reference(ours: GGUFFile, path: Path) -> None:
    reference = gguf.GGUFReader(path)
    fields = {key: field for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        value = ours.metadata[key]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), key
    assert list(ours.tensors) == [tensor.name for tensor in reference.tensors]
    for tensor in reference.tensors:
        info = ours.tensors[tensor.name]
        assert (info.name, info.path, int(info.type)) == (tensor.name, path, tensor.tensor_type)
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert (info.offset_bytes, info.size_bytes, info.n_elements) == (
            tensor.data_offset,
            tensor.n_bytes,
            tensor.n_elements,
        )


def test_starter_file_equals_reference(starter_gguf: Path) -> None:
    ours = read_gguf(starter_gguf)
    _assert_equals_reference(ours, starter_gguf)
    assert ours.version == 3
    assert ours.architecture == "llama"
    assert ours.require_int("llama.block_count") == 30
    assert ours.tensors["token_embd.weight"].shape == (49152, 576)
    assert len(ours.require_strs("tokenizer.ggml.tokens")) == 49152


def test_written_file_equals_reference(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 1e-5)
    writer.add_float64("f64", 1e-300)
    writer.add_bool("true", True)
    writer.add_string("text", "한국어 🦙\n")
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.add_array("flags", [True, False])
    writer.add_array("texts", ["", "가", "🦙 b"])
    matrix = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    writer.add_tensor("matrix", matrix)
    quantized = gguf.quants.quantize(
        np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("quantized", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    ours = read_gguf(path)
    _assert_equals_reference(ours, path)
    info = ours.tensors["matrix"]
    assert info.offset_bytes % 64 == 0
    stored = path.read_bytes()[info.offset_bytes :][: info.size_bytes]
    assert np.array_equal(np.frombuffer(stored, np.float32).reshape(info.shape), matrix)
    assert ours.tensors["quantized"].type is TensorType.Q8_0
    assert ours.tensors["quantized"].shape == (3, 64)


@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z_.]{1,30}\Z").filter(lambda key: not key.startswith("general.")),
        st.booleans()
        | st.integers(-(2**31), 2**31 - 1)
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
        | st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1)
        | st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1),
        max_size=8,
    )
)
def test_any_metadata_comes_back(tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("metadata") / "any.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in read_gguf(path).metadata.items()}
    assert ours == {"general.architecture": "llama", **metadata}


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read(tmp_path: Path, version: int) -> None:
    path = tmp_path / "v.gguf"
    path.write_bytes(gguf_files.gguf([gguf_files.ARCHITECTURE], version=version))
    ours = read_gguf(str(path))
    assert (ours.version, ours.architecture, len(ours.tensors)) == (version, "llama", 0)


def test_what_was_read_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "valid.gguf"
    path.write_bytes(gguf_files.VALID)
    ours = read_gguf(path)
    scores = ours.metadata["tokenizer.ggml.scores"]
    assert isinstance(scores, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        scores[0] = 1
    with pytest.raises(TypeError):
        ours.tensors["x"] = ours.tensors["token_embd.weight"]  # type: ignore[index]


def test_tensor_data_is_not_read(tmp_path: Path) -> None:
    """A sparse file of 1 TB: reading any of its data section would take minutes."""
    path = tmp_path / "sparse.gguf"
    rows = 2**40 // 4 // 4096
    path.write_bytes(gguf_files.gguf([gguf_files.ARCHITECTURE], [gguf_files.tensor("huge", [4096, rows])]))
    try:
        os.truncate(path, path.stat().st_size + 2**40)
    except OSError:
        pytest.skip("this file system has no sparse files of 1 TB")
    assert read_gguf(path).tensors["huge"].size_bytes == 2**40


def test_endless_header_is_refused(tmp_path: Path) -> None:
    """A string as long as a sparse file of 1 TB is refused before it is copied."""
    path = tmp_path / "endless.gguf"
    path.write_bytes(gguf_files.gguf([gguf_files.pair("k", gguf_files.STRING, gguf_files.u64(2**39))]))
    try:
        os.truncate(path, 2**40)
    except OSError:
        pytest.skip("this file system has no sparse files of 1 TB")
    with pytest.raises(MalformedFile, match="header is longer than 268 MB"):
        read_gguf(path)
    assert MAX_HEADER_BYTES == 2**28


def test_nothing_at_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "no.gguf", tmp_path / "no" / "no.gguf", tmp_path / "nul\0.gguf"):
        with pytest.raises(ModelNotFound):
            read_gguf(path)


def test_folder_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match="it is a folder"):
        read_gguf(tmp_path)
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(MalformedFile, match="it is empty"):
        read_gguf(empty)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(MalformedFile, match="a device or a pipe"):
        read_gguf(tmp_path / "pipe.gguf")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root and Windows read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(gguf_files.VALID)
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        read_gguf(path)
