"""Tensors are exchanged in a loaded model as if it had been loaded with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.native.mutable import MAX_TOKENS
from madang.quantization.encoding import quantize
from tests.native.conftest import OpenEngine
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint

TOKENS = np.random.default_rng(3).integers(3, 259, 40).tolist()


def logits_of(model: MutableModel) -> np.ndarray:
    (rows,) = model.logits(TOKENS)
    return rows


def test_it_reads_as_an_engine_does(open_engine: OpenEngine, tiny_gguf: Path) -> None:
    rows = np.concatenate(list(open_engine().logits(TOKENS)))
    assert np.array_equal(logits_of(MutableModel(tiny_gguf, 1)), rows)


def test_others_take_the_place_of_tensors_and_go_again(tmp_path: Path) -> None:
    """Also after a step has made room for the activations that the first ones wanted."""
    model = write_checkpoint(MODEL, tmp_path / "floats.gguf")
    weights = model.weights["model.layers.1.mlp.down_proj.weight"]
    mutable = MutableModel(model.path, 1)
    before = logits_of(mutable)
    data = quantize(weights, TensorType.Q8_0, n_threads=1)
    mutable.exchange({"1.ffn_down": (TensorType.Q8_0, data)})
    after = logits_of(mutable)
    assert 0 < np.abs(after - before).max() < 0.2 * before.std()
    mutable.exchange({"1.ffn_down": (TensorType.F32, weights.view(np.uint8))})
    assert np.array_equal(logits_of(mutable), before)


def test_inputs_are_what_the_matrices_read(tmp_path: Path) -> None:
    """The first layer's from the embeddings; ffn_down's from the products before it."""
    model = write_checkpoint(MODEL, tmp_path / "floats.gguf")
    weights = {name: value.astype(np.float64) for name, value in model.weights.items()}
    mutable = MutableModel(model.path, 1)
    found = dict(mutable.read_inputs(TOKENS))
    states = weights["model.embed_tokens.weight"][TOKENS]
    norm = np.sqrt(np.square(states).mean(-1, keepdims=True) + MODEL.norm_epsilon)
    wanted = states / norm * weights["model.layers.0.input_layernorm.weight"]
    width = MODEL.n_embd
    assert np.abs(found["0.query", "0.key", "0.value"][:, :width] - wanted).max() < 1e-4
    read = found["1.ffn_gate", "1.ffn_up"][:, :width].astype(np.float64)
    gate, up = (read @ weights[f"model.layers.1.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    wanted = gate / (1 + np.exp(-gate)) * up
    assert np.abs(found[("1.ffn_down",)][:, : MODEL.n_ff] - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert len(found) == 4 * MODEL.n_layers + 1
    (last,) = [rows for names, rows in found.items() if names == ("output",)]
    head = weights["lm_head.weight"]
    assert np.abs(last.astype(np.float64) @ head.T - logits_of(mutable)).max() < 1e-3


def test_inputs_are_those_of_the_last_step(tiny_gguf: Path) -> None:
    mutable = MutableModel(tiny_gguf, 1)
    inputs = mutable.read_inputs(TOKENS)
    logits_of(mutable)
    with pytest.raises(ValueError, match="did not keep"):
        list(inputs)


def test_what_it_does_not_read(tiny_gguf: Path, minilm_folder: Path) -> None:
    mutable = MutableModel(tiny_gguf, 1)
    for tokens in ([], [1] * (MAX_TOKENS + 1)):
        with pytest.raises(InvalidRequest, match="1 to 1024 tokens"):
            next(mutable.logits(tokens))
    with pytest.raises(UnsupportedModel, match="encoder"):
        MutableModel(minilm_folder, 1)
