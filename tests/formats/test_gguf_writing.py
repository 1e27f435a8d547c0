"""What is written is read back alike, by us and by the reference implementation; and nothing is left half-written."""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import InvalidRequest, MalformedFile, ModelError, NotEnoughDisk
from madang.formats.gguf import read_gguf
from madang.formats.gguf_writing import TensorToWrite, copied_tensor, read_chunks, write_gguf
from madang.formats.tensors import TensorType

gguf = pytest.importorskip("gguf")

VALUES: dict[str, Any] = {
    "general.architecture": "llama",
    "general.alignment": 64,
    "text": "한국어 🦙\n",
    "flag": True,
    "count": 7,
    "negative": -(2**31),
    "large": 2**64 - 1,
    "small": np.float32(1e-5),
    "exact.u8": np.uint8(255),
    "exact.i8": np.int8(-128),
    "exact.u16": np.uint16(65535),
    "exact.i16": np.int16(-32768),
    "exact.i64": np.int64(-(2**63)),
    "exact.f64": np.float64(1e-300),
    "texts": ["", "가", "🦙 b"],
    "no texts": [],
    "numbers": np.array([1, -2, 3], np.int32),
    "reals": np.array([0.5, -1.5], np.float32),
    "flags": np.array([True, False]),
}


def matrix(n_rows: int, n_columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(n_rows).standard_normal((n_rows, n_columns), np.float32)


def whole(name: str, values: np.ndarray[Any, Any], tensor_type: TensorType = TensorType.F32) -> TensorToWrite:
    return TensorToWrite(name, tensor_type, values.shape, lambda: values)


def contents(path: Path) -> dict[str, bytes]:
    return {name: b"".join(map(bytes, read_chunks(info))) for name, info in read_gguf(path).tensors.items()}


def test_the_reference_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.gguf"
    values = matrix(3, 5)
    tensors = [whole("a", values), whole("b", values[0]), whole("c", values.astype(np.float16), TensorType.F16)]
    written = write_gguf(path, VALUES, tensors)
    reader = gguf.GGUFReader(path)
    for key, value in VALUES.items():
        field = reader.fields[key]
        found = field.contents()
        assert found == (value.tolist() if isinstance(value, np.ndarray | np.generic) else value), key
    assert [(tensor.name, tensor.shape.tolist()) for tensor in reader.tensors] == [
        ("a", [5, 3]),
        ("b", [5]),
        ("c", [5, 3]),
    ]
    assert np.array_equal(reader.tensors[0].data, values)
    assert all(tensor.data_offset % 64 == 0 for tensor in reader.tensors)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert written.size_bytes == path.stat().st_size
    assert list(path.parent.iterdir()) == [path]


def test_a_file_written_again_is_the_same(tmp_path: Path) -> None:
    """With the types of its numbers, and its tensors in chunks."""
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    write_gguf(first, VALUES, [whole("a", matrix(40, 7)), whole("b", matrix(1, 3))])
    file = read_gguf(first)
    write_gguf(second, file.typed_metadata, [copied_tensor(tensor) for tensor in file.tensors.values()])
    assert first.read_bytes() == second.read_bytes()


def test_a_file_without_tensors(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", VALUES, [])
    assert len(gguf.GGUFReader(tmp_path / "a.gguf").tensors) == 0
    assert read_gguf(tmp_path / "a.gguf").metadata.keys() == VALUES.keys()


@given(st.lists(st.integers(0, 100), max_size=8))
def test_pieces_of_any_size(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    data = matrix(5, 5).tobytes()
    cuts = [0, *sorted(cuts), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(cuts)]
    path = tmp_path_factory.mktemp("pieces") / "a.gguf"
    write_gguf(path, {}, [TensorToWrite("a", TensorType.F32, (5, 5), lambda: iter(pieces))])
    assert contents(path) == {"a": data}


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    class Watching:
        def __init__(self) -> None:
            self.total: int | None = None
            self.done = 0
            self.ended = False

        def started(self, total_bytes: int | None) -> None:
            self.total = total_bytes

        def advanced(self, n_bytes: int) -> None:
            self.done += n_bytes

        def finished(self) -> None:
            self.ended = True

    watching = Watching()
    written = write_gguf(tmp_path / "a.gguf", {}, [whole("a", matrix(40, 7))], progress=watching)
    assert watching.total == watching.done == written.size_bytes
    assert watching.ended


# ---- what goes wrong leaves what was there


def _interrupted() -> Iterator[bytes]:
    yield bytes(8)
    raise KeyboardInterrupt


def _full() -> Iterator[bytes]:
    yield bytes(8)
    raise OSError(errno.ENOSPC, "No space left on device")


def _refused() -> Iterator[bytes]:
    yield bytes(8)
    raise OSError(errno.EIO, "Input/output error")


def _too_short() -> bytes:
    return bytes(12)


def _too_long() -> bytes:
    return bytes(20)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (_interrupted, KeyboardInterrupt),
        (_full, NotEnoughDisk),
        (_refused, ModelError),
        (_too_short, ValueError),
        (_too_long, ValueError),
    ],
)
def test_the_old_file_stays(tmp_path: Path, data: Callable[[], Any], error: type[BaseException]) -> None:
    path = tmp_path / "a.gguf"
    path.write_text("old")
    with pytest.raises(error):
        write_gguf(path, {}, [TensorToWrite("a", TensorType.F32, (4,), data)])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_before_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"

    def never() -> bytes:
        raise AssertionError

    tensor = TensorToWrite("a", TensorType.F32, (1000, 1000), never)
    with pytest.raises(NotEnoughDisk) as caught:
        write_gguf(path, {}, [tensor], free_bytes=lambda folder: 1_000_000)
    assert caught.value.needed_bytes > 4_000_000
    assert caught.value.available_bytes == 1_000_000
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_something_else(tmp_path: Path) -> None:
    """What was written is damaged while the last tensor is still to come."""
    path = tmp_path / "a.gguf"

    def damage() -> bytes:
        temporary = next(file for file in tmp_path.iterdir())
        with temporary.open("r+b") as file:
            file.seek(4000)
            file.write(b"damage")
        return bytes(4)

    first = np.ones(64 * 1024, np.float32)
    with pytest.raises(MalformedFile, match="read back"):
        write_gguf(path, {}, [whole("a", first), TensorToWrite("b", TensorType.F32, (1,), damage)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "tensors", "words"),
    [
        ({}, [whole("a", matrix(2, 3)), whole("a", matrix(2, 3))], "Two tensors"),
        ({}, [whole("x" * 65, matrix(2, 3))], "64 bytes"),
        ({}, [whole("a\n", matrix(2, 3))], "printable"),
        ({}, [TensorToWrite("a", TensorType.Q4_K, (2, 576), bytes)], "rows of 576 elements"),
        ({}, [whole("a", np.zeros((1, 1, 1, 1, 1), np.float32))], "1 to 4 sizes"),
        ({}, [whole("a", np.zeros((0, 3), np.float32))], "1 to 4 sizes"),
        ({"": 1}, [], "metadata key"),
        ({"a": 2**64}, [], "64 bits"),
        ({"a": np.zeros((2, 2))}, [], "2 dimensions"),
        ({"a": np.complex64(1)}, [], "complex64"),
        ({"general.alignment": 48}, [], "power of two"),
    ],
)
def test_what_the_format_cannot_hold(
    tmp_path: Path, metadata: dict[str, Any], tensors: list[TensorToWrite], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        write_gguf(tmp_path / "a.gguf", metadata, tensors)
    assert list(tmp_path.iterdir()) == []
