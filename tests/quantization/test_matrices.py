"""Matrices of every family's files are found, and lie where the decoder looks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.quantization.encoding import dequantize, quantize
from madang.quantization.importance import Grams, measure_importance
from madang.quantization.matrices import group_of, quantizable_matrices
from madang.quantization.screen import Encoder

families = pytest.importorskip("tests.parity.families")

TOKENS = np.random.default_rng(3).integers(3, 259, 40).tolist()


DECODERS = [family for family in families.FAMILIES if family.arch is not None and not family.encoder]


@pytest.fixture(scope="module", params=DECODERS, ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = families.build(request.param, tmp_path_factory.mktemp("families")).gguf
    assert path is not None
    return Path(path)


def test_a_type_does_to_the_model_what_it_does_to_its_values(model: Path, tmp_path: Path) -> None:
    """Each part of a tensor goes to the matrix that it is: experts, and what files hold together."""
    mutable = MutableModel(model, 1)
    matrices = quantizable_matrices(read_gguf(model), mutable.description)
    importance, grams = measure_importance(mutable, [TOKENS]), Grams()
    measure_importance(mutable, [TOKENS], grams=grams)
    encoder = Encoder(tmp_path, importance.mean_squares, grams.by_name, n_threads=1)
    n_layers = mutable.description.spec.n_layers
    (before,) = mutable.logits(TOKENS)
    kinds = {"ffn_down", "ffn_up", "query", "value"}
    checked = [own for own in matrices if own.kind in kinds and own.layer == 1 and own.n_columns % 32 == 0]
    assert checked
    for matrix in checked:
        assert group_of(matrix, n_layers).startswith(matrix.kind)
        data = encoder.encode(matrix, TensorType.Q5_0)
        mutable.exchange(matrix.exchange(TensorType.Q5_0, data))
        (packed,) = mutable.logits(TOKENS)
        values = dequantize(data, TensorType.Q5_0)
        mutable.exchange(matrix.exchange(TensorType.F32, values.view(np.uint8)))
        (floats,) = mutable.logits(TOKENS)
        assert np.abs(packed - floats).max() < 0.02 * before.std()
        assert 0 < np.abs(floats - before).max() < before.std()
        own = quantize(matrix.read(), matrix.tensor.type, n_threads=1)
        mutable.exchange(matrix.exchange(matrix.tensor.type, own))
        (again,) = mutable.logits(TOKENS)
        assert np.array_equal(again, before)


def test_importance_is_known_for_all_of_them(model: Path) -> None:
    """All but embeddings that are no output."""
    mutable = MutableModel(model, 1)
    found = measure_importance(mutable, [TOKENS]).mean_squares
    for matrix in quantizable_matrices(read_gguf(model), mutable.description):
        if matrix.kind != "token_embedding":
            assert found[matrix.name].shape[-1] >= matrix.n_columns
