"""Hostile GGUF files: each named defect has its own sentence, and no mutation of a valid file gets past the checks."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madang.core.errors import MadangError, MalformedFile, UnsupportedModel
from madang.formats.gguf import GGUFFile, read_gguf
from tests.formats.malformed.gguf_files import DEFECTS, VALID, Defect, u64

INTERESTING = (0, 1, 2, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_defect_is_refused(tmp_path: Path, defect: Defect) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(defect.content)
    with pytest.raises(UnsupportedModel if defect.unsupported else MalformedFile) as caught:
        read_gguf(path)
    assert defect.problem in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_defects_are_distinct() -> None:
    assert len({defect.name for defect in DEFECTS}) == len({defect.content for defect in DEFECTS}) == len(DEFECTS)


def test_split_model_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00003.gguf"
    path.write_bytes(next(defect.content for defect in DEFECTS if defect.name == "second part of a split model"))
    with pytest.raises(UnsupportedModel, match=r"'model-00002-of-00003\.gguf' is part 2 of 3") as caught:
        read_gguf(path)
    assert "llama-gguf-split --merge" in str(caught.value.hint)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for n_bytes in range(len(VALID)):
        path.write_bytes(VALID[:n_bytes])
        with pytest.raises(MalformedFile):
            read_gguf(path)


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """The valid file after one to four flips, overwritten integers, cuts, insertions, or copies of itself."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["flip", "integer", "truncate", "insert", "splice"]))
        if kind == "flip" and at < len(content):
            content[at] ^= draw(st.integers(1, 255))
        elif kind == "integer":
            content[at : at + 8] = u64(draw(st.sampled_from(INTERESTING)))
        elif kind == "truncate":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=64))
        elif kind == "splice":
            source = draw(st.integers(0, len(content)))
            length = draw(st.integers(0, 128))
            content[at : at + length] = content[source : source + length]
    return bytes(content)


@settings(max_examples=400)
@given(mutated_files())
@example(VALID)
def test_mutations_are_parsed_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        ours = read_gguf(path)
    except MadangError as error:
        assert error.message.isprintable()
    else:
        _assert_invariants(ours, len(content))
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 16 * len(content) + 256 * 1024


def _assert_invariants(ours: GGUFFile, file_bytes: int) -> None:
    assert ours.version in (2, 3)
    for key, value in ours.metadata.items():
        assert key.isprintable()
        assert isinstance(value, bool | int | float | str | list | np.ndarray)
        if isinstance(value, list):
            assert all(isinstance(item, str) for item in value)
    for name, info in ours.tensors.items():
        assert name == info.name
        assert 1 <= len(info.shape) <= 4
        assert all(dim > 0 for dim in info.shape)
        assert info.shape[-1] % info.type.block_elements == 0
        assert 0 < info.offset_bytes < info.offset_bytes + info.size_bytes <= file_bytes
    assert sum(info.size_bytes for info in ours.tensors.values()) <= file_bytes
    for before, after in pairwise(sorted(ours.tensors.values(), key=lambda info: info.offset_bytes)):
        assert before.offset_bytes + before.size_bytes <= after.offset_bytes
