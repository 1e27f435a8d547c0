"""Products with weights of every type on every instruction set, on their own.

The model's one layer adds nothing, so its logits are ``output @ rms_norm(embedding of the token)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from madang import _core
from madang.formats.tensors import TensorType
from tests.native.bare import BareModel, set_array
from tests.parity.blocks import FLOATS, decode, encode, filled_rows, random_rows
from tests.parity.running import read

RUNNABLE = [TensorType(type_id) for type_id, _ in _core.tensor_types()]
N_EMBD, N_WORDS = 512, 307  # two super-blocks; the last group of 16 rows is not full
BATCHES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33)

Rows = npt.NDArray[np.float64]

each_type = pytest.mark.parametrize("tensor_type", RUNNABLE, ids=lambda tensor_type: tensor_type.name)
each_isa = pytest.mark.parametrize("isa", _core.available_isas())


def normalized(rows: Rows) -> Rows:
    """RMSNorm with a weight of ones."""
    normal: Rows = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-5)
    return normal


def encoded_matrix(tensor_type: TensorType, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Values around 0 with a deviation of about 1; quantized blocks of random bytes."""
    rng = np.random.default_rng(int(tensor_type))
    if tensor_type in FLOATS:
        encoded = encode(rng.normal(size=(rows, columns)).astype(np.float32), tensor_type, rng)
        return np.ascontiguousarray(encoded).view(np.uint8).reshape(rows, -1)
    return random_rows(tensor_type, rows, columns, rng, deviation=1.0)


def decoded(encoded: npt.NDArray[np.uint8], tensor_type: TensorType) -> Rows:
    """In float64."""
    floats = {TensorType.F32: "<f4", TensorType.F16: "<f2"}
    return decode(encoded.view(floats.get(tensor_type, np.uint8)), tensor_type).astype(np.float64)


def empty_layer_decoder(model: BareModel, isa: str) -> _core.Decoder:
    """Everything but the embedding and the output; norms are ones, matrices zeros."""
    decoder = _core.Decoder(model.shape(), 1, isa)
    for name, size in model.sizes().items():
        if name not in ("token_embedding", "output"):
            set_array(decoder, name, np.full(size, float("norm" in name)))
    return decoder


@each_isa
@each_type
def test_product(tensor_type: TensorType, isa: str) -> None:
    model = BareModel(n_embd=N_EMBD, vocab_size=N_WORDS, tied=False)
    embedding = np.random.default_rng(1).standard_t(3, (N_WORDS, N_EMBD))  # some values stand far out
    weights = encoded_matrix(tensor_type, N_WORDS, N_EMBD)
    decoder = empty_layer_decoder(model, isa)
    set_array(decoder, "token_embedding", embedding)
    decoder.set_tensor("output", int(tensor_type), N_WORDS, N_EMBD, weights.reshape(-1))
    decoder.complete()
    expected = normalized(embedding.astype(np.float32).astype(np.float64)) @ decoded(weights, tensor_type).T
    # Float sums, 15-bit activations, or bfloat16 activations where that instruction set multiplies those.
    tolerance = 1e-6 if tensor_type in FLOATS else 2e-4
    if tensor_type is TensorType.BF16 and isa == "avx512-bf16":
        tolerance = 5e-3
    for n in BATCHES:
        tokens = np.arange(n) * 9 % N_WORDS
        error = read(decoder, tokens.tolist()) - expected[tokens]
        assert np.abs(error).max() < tolerance * 5 * expected.std(), n


@each_isa
@each_type
@pytest.mark.parametrize(("n_words", "n_blocks"), [(3, 1), (16, 5), (33, 16)])
def test_product_of_any_size(tensor_type: TensorType, n_words: int, n_blocks: int, isa: str) -> None:
    """Groups that are not full; one block of columns, and many."""
    n_embd = n_blocks * max(tensor_type.block_elements, 32)
    model = BareModel(n_embd=n_embd, vocab_size=n_words, tied=False)
    embedding = np.random.default_rng(n_words).normal(size=(n_words, n_embd))
    weights = encoded_matrix(tensor_type, n_words, n_embd)
    decoder = empty_layer_decoder(model, isa)
    set_array(decoder, "token_embedding", embedding)
    decoder.set_tensor("output", int(tensor_type), n_words, n_embd, weights.reshape(-1))
    decoder.complete()
    expected = normalized(embedding.astype(np.float32).astype(np.float64)) @ decoded(weights, tensor_type).T
    error = read(decoder, range(n_words)) - expected
    assert np.abs(error).max() < (5e-2 if tensor_type is TensorType.BF16 else 1e-3) * expected.std()


@each_type
def test_embedding(tensor_type: TensorType) -> None:
    rows = encoded_matrix(tensor_type, N_WORDS, N_EMBD)
    model = BareModel(n_embd=N_EMBD, vocab_size=N_WORDS, tied=False)
    decoder = empty_layer_decoder(model, "")
    decoder.set_tensor("token_embedding", int(tensor_type), N_WORDS, N_EMBD, rows.reshape(-1))
    columns = np.eye(N_EMBD)[-N_WORDS:]
    set_array(decoder, "output", columns)
    decoder.complete()
    actual = read(decoder, range(N_WORDS))
    expected = normalized(decoded(rows, tensor_type))[:, -N_WORDS:]
    assert np.allclose(actual, expected, rtol=2e-6, atol=1e-6)


@each_isa
@pytest.mark.parametrize("tensor_type", [t for t in RUNNABLE if t not in FLOATS], ids=lambda t: t.name)
@pytest.mark.parametrize("quant_byte", [0x00, 0x7F, 0x80, 0xFF])
def test_extreme_quants_do_not_overflow(tensor_type: TensorType, quant_byte: int, isa: str) -> None:
    """All quants and small scales at one end, all activations at one magnitude: the largest integer sums there are."""
    model = BareModel(n_embd=256, vocab_size=16, tied=False)
    weights = filled_rows(tensor_type, 16, 256, quant_byte)
    signs = np.where(np.random.default_rng(1).random((16, 256)) < np.linspace(0, 1, 16)[:, None], 1.0, -1.0)
    decoder = empty_layer_decoder(model, isa)
    set_array(decoder, "token_embedding", signs)
    decoder.set_tensor("output", int(tensor_type), 16, 256, weights.reshape(-1))
    decoder.complete()
    values = decoded(weights, tensor_type)
    error = read(decoder, range(16)) - normalized(signs) @ values.T
    assert np.abs(error).max() < 1e-4 * max(1.0, np.abs(values).sum(-1).max())
