"""The model of the fixture ``tiny_gguf``."""

from __future__ import annotations

from tests.parity.checkpoints import TinyModel

MODEL = TinyModel("tiny", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64)
