"""Importance is the mean square of what matrices read, in files that llama.cpp's tools have."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import MalformedFile
from madang.native import MutableModel
from madang.quantization.importance import (
    Grams,
    Importance,
    measure_importance,
    read_importance,
    write_importance,
)
from tests.quantization.conftest import SHAPE

gguf = pytest.importorskip("gguf")

CHUNKS = np.random.default_rng(0).integers(3, 259, (3, 50)).tolist()


def test_means_over_all_tokens(tiny_gguf: Path) -> None:
    model, grams, told = MutableModel(tiny_gguf, 1), Grams(), []
    found = measure_importance(
        model, CHUNKS, dataset="text", grams=grams, progress=lambda done, total: told.append((done, total))
    )
    rows = [dict(iter(model.read_inputs(chunk))) for chunk in CHUNKS]
    down = np.concatenate([own[("1.ffn_down",)] for own in rows])
    assert np.allclose(found.mean_squares["blk.1.ffn_down.weight"], np.square(down).mean(axis=0), rtol=1e-5)
    assert np.allclose(grams.by_name["1.ffn_down"], down.T @ down / len(down), rtol=1e-3, atol=1e-5)
    assert found.counts["blk.1.ffn_down.weight"].tolist() == [150]
    assert grams.by_name["0.query"] is grams.by_name["0.value"]
    assert len(found.mean_squares) == 7 * SHAPE.n_layers + 1  # all matrices but the embedding, which is not tied
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_files_come_back_and_others_read_them(tmp_path: Path) -> None:
    means = {"a.weight": np.arange(4, dtype=np.float32), "exps.weight": np.ones((3, 4), np.float32)}
    means["exps.weight"][2] = 0
    counts = {"a.weight": np.array([7]), "exps.weight": np.array([1, 2, 0])}
    write_importance(tmp_path / "i.gguf", Importance(means, counts, ("text",), 2, 512))
    back = read_importance(tmp_path / "i.gguf")
    assert {name: value.tolist() for name, value in back.mean_squares.items()} == {
        name: value.tolist() for name, value in means.items()
    }
    assert {name: value.tolist() for name, value in back.counts.items()} == {"a.weight": [7], "exps.weight": [1, 2, 0]}
    assert (back.datasets, back.n_chunks, back.chunk_tokens) == (("text",), 2, 512)
    reader = gguf.GGUFReader(tmp_path / "i.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["a.weight.in_sum2"].data.reshape(-1).tolist() == [0, 7, 14, 21]
    assert tensors["exps.weight.counts"].shape.tolist() == [1, 3]
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.chunk_count"].contents() == 2


def legacy(*, n_calls: int = 4) -> bytes:
    data = struct.pack("<i", 1) + struct.pack("<i", 8) + b"a.weight" + struct.pack("<ii", n_calls, 3)
    data += struct.pack("<3f", 4, 8, 12) + struct.pack("<i", 5) + struct.pack("<i", 4) + b"text"
    return data


def test_older_files(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(legacy())
    found = read_importance(path)
    assert found.mean_squares["a.weight"].tolist() == [1, 2, 3]
    assert (found.datasets, found.n_chunks) == (("text",), 5)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (legacy()[:20], "ends inside an entry"),
        (b"\xff\xff\xff\xff", "no importance matrix"),
        (struct.pack("<ii", 1, 10**6), "no importance matrix"),
        (legacy().replace(struct.pack("<f", 4), struct.pack("<f", -4)), "negative"),
        (b"a text", "no importance matrix"),
    ],
)
def test_damaged_older_files(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(data)
    with pytest.raises(MalformedFile, match=problem):
        read_importance(path)


def test_a_model_is_no_importance_matrix(tiny_gguf: Path) -> None:
    with pytest.raises(MalformedFile, match="no importance matrix"):
        read_importance(tiny_gguf)
