"""Every tensor type, in a whole model, against ``transformers`` in float32 on the dequantized tensors.

Products with quantized weights take activations of 8 bits (of 15 where a row has outliers, and before the logits), so
these bounds are about the size of that rounding; tests/native/test_products.py looks at the products alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang import _core
from madang.formats.tensors import TensorType
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint
from tests.parity.references import Logits, divergences, reference_logits, reference_model
from tests.parity.running import open_decoder, read

MODEL = TinyModel("types", n_heads=8, n_kv_heads=2, head_dim=64, n_embd=256, n_ff=512, vocab_size=300)
TIED = TinyModel("tied-types", n_heads=4, n_kv_heads=1, head_dim=64, n_embd=256, n_ff=256, tied=True)
TOKENS = np.random.default_rng(3).integers(0, 259, 300).tolist()
RUNNABLE = [TensorType(type_id) for type_id, _ in _core.tensor_types()]
# Measured: 2e-7 for F32 and F16, 2e-7 or (with bfloat16 products) 4e-5 for BF16, 6e-4 at most for the others.
KL = {TensorType.F32: 1e-6, TensorType.F16: 1e-6, TensorType.BF16: 1e-4}
KL_QUANTIZED = 1e-3
KL_MIXED = 5e-3  # measured: 3e-3 at most
# As files come: embeddings or output in more bits than the rest, values and down projections too.
MIXTURES = {
    "q4_k_m": {"attn_v.weight": TensorType.Q6_K, "ffn_down.weight": TensorType.Q6_K, "output.weight": TensorType.Q6_K},
    "q4_0": {"token_embd.weight": TensorType.F16, "output.weight": TensorType.Q8_0},
    "everything": {
        "token_embd.weight": TensorType.Q5_1,
        "attn_q.weight": TensorType.Q5_K,
        "attn_k.weight": TensorType.BF16,
        "attn_v.weight": TensorType.F32,
        "attn_output.weight": TensorType.F16,
        "ffn_gate.weight": TensorType.Q4_1,
        "ffn_up.weight": TensorType.Q5_0,
        "ffn_norm.weight": TensorType.F16,
        "output_norm.weight": TensorType.BF16,
    },
}


def with_reference(checkpoint: Checkpoint) -> tuple[Checkpoint, Logits]:
    return checkpoint, reference_logits(reference_model(checkpoint.model, checkpoint.weights), TOKENS)


@pytest.fixture(scope="module", params=RUNNABLE, ids=lambda tensor_type: tensor_type.name)
def of_one_type(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Logits, TensorType]:
    """A model with all matrices of one type."""
    path = tmp_path_factory.mktemp("types") / "model.gguf"
    return *with_reference(write_checkpoint(MODEL, path, request.param)), request.param


@pytest.mark.parametrize("isa", _core.available_isas())
def test_logits(of_one_type: tuple[Checkpoint, Logits, TensorType], isa: str) -> None:
    checkpoint, expected, tensor_type = of_one_type
    actual = read(open_decoder(checkpoint.path, n_threads=1, isa=isa), TOKENS)
    assert divergences(expected, actual).mean() < KL.get(tensor_type, KL_QUANTIZED)


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("model", [MODEL, TIED], ids=str)
def test_types_mixed_within_a_model(tmp_path: Path, model: TinyModel, mixture: str) -> None:
    base = TensorType.Q4_0 if mixture == "q4_0" else TensorType.Q4_K
    checkpoint = write_checkpoint(model, tmp_path / "mixed.gguf", base, types=MIXTURES[mixture])
    checkpoint, expected = with_reference(checkpoint)
    for isa in _core.available_isas():
        actual = read(open_decoder(checkpoint.path, n_threads=1, isa=isa), TOKENS)
        assert divergences(expected, actual).mean() < KL_MIXED, isa
