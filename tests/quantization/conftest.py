"""A tiny model in float32, one token per byte, whose rows every simple type divides."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gguf")
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint

SHAPE = TinyModel("tiny", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=64, n_ff=96)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The file, and its weights by Hugging Face's names."""
    return write_checkpoint(SHAPE, tmp_path_factory.mktemp("quantization") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_gguf(checkpoint: Checkpoint) -> Path:
    """The file alone."""
    return checkpoint.path
