"""Every shape that the llama family comes in, in float32, against ``transformers``: what is left is rounding."""

from __future__ import annotations

import numpy as np
import pytest

from madang import _core
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint
from tests.parity.references import Logits, divergences, reference_logits, reference_model
from tests.parity.running import open_decoder, read

N_TOKENS = 600
LENGTHS = (1, 15, 16, 17, 255, 256, 257, 300, 513)  # around the ends of pages (16) and of attention partitions (256)
CHUNKINGS = {"odd": (7, 1, 13, 31, 3, 255), "one by one": (1,) * N_TOKENS, "after one": (1,)}
# With the cache rounded alike. Measured: mean KL 1e-8, largest difference 2e-3 of the logits' deviation.
KL, DIFFERENCE = 2e-7, 1e-2
# Against a float32 cache. Measured: mean KL 6e-7.
KL_FLOAT_CACHE = 5e-6

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
MODELS = (
    TinyModel("own-kv-heads", n_heads=4, n_kv_heads=4, head_dim=32, n_embd=128, n_ff=192),
    TinyModel("heads-of-64", n_heads=8, n_kv_heads=2, head_dim=64, n_ff=100),
    TinyModel("11-heads-share-one", n_heads=11, n_kv_heads=1, head_dim=8, n_embd=88, n_ff=72),
    TinyModel("heads-of-80-tied", n_heads=6, n_kv_heads=2, head_dim=80, n_embd=96, n_ff=64, tied=True),
    TinyModel("heads-of-128", n_heads=2, n_kv_heads=1, head_dim=128, rope_theta=500_000.0),
    TinyModel("uneven-sizes", n_heads=3, n_kv_heads=3, head_dim=10, n_embd=51, n_ff=35, n_layers=3, vocab_size=301),
    TinyModel("linear", scaling={"rope_type": "linear", "factor": 4.0}),
    TinyModel("llama3", head_dim=64, rope_theta=500_000.0, scaling=LLAMA3),
    TinyModel("yarn", head_dim=64, scaling=YARN),
    TinyModel("window-of-40", window=40),
    TinyModel("window-of-7", n_heads=4, n_kv_heads=1, head_dim=16, n_embd=48, n_ff=48, window=7),
    TinyModel("window-of-300", n_heads=20, n_kv_heads=2, head_dim=8, window=300),
)
TOKENS = np.random.default_rng(7).integers(0, 259, N_TOKENS).tolist()


@pytest.fixture(scope="module", params=MODELS, ids=str)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One of the shapes."""
    return write_checkpoint(request.param, tmp_path_factory.mktemp("shapes") / f"{request.param}.gguf")


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint) -> Logits:
    """Logits of the reference with a float16 cache."""
    return reference_logits(reference_model(checkpoint.model, checkpoint.weights), TOKENS, half_cache=True)


def assert_close(expected: Logits, actual: Logits) -> None:
    assert divergences(expected, actual).mean() < KL
    assert np.abs(expected - actual).max() < DIFFERENCE * expected.std()


@pytest.mark.parametrize("isa", _core.available_isas())
def test_logits_on_every_instruction_set(checkpoint: Checkpoint, expected: Logits, isa: str) -> None:
    decoder = open_decoder(checkpoint.path, n_threads=1, isa=isa)
    assert decoder.isa == isa
    assert_close(expected, read(decoder, TOKENS))


def test_logits_against_a_float32_cache(checkpoint: Checkpoint) -> None:
    expected = reference_logits(reference_model(checkpoint.model, checkpoint.weights), TOKENS)
    assert divergences(expected, read(open_decoder(checkpoint.path, n_threads=1), TOKENS)).mean() < KL_FLOAT_CACHE


def test_every_length_and_way_of_reading(checkpoint: Checkpoint, expected: Logits) -> None:
    decoder = open_decoder(checkpoint.path, n_threads=1)
    for length in LENGTHS:
        assert_close(expected[:length], read(decoder, TOKENS[:length]))
    for chunks in CHUNKINGS.values():
        assert_close(expected, read(decoder, TOKENS, chunks))
