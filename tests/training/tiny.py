"""Tiny random models as folders, one token per byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from madang.conversion.to_folder import to_folder
from madang.formats.tensors import TensorType
from madang.training.examples import Encoded
from tests.parity.checkpoints import TinyModel, write_checkpoint

SHAPE = TinyModel("tiny", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64, n_layers=4)


def tiny_folder(where: Path, *, tied: bool = True, name: str = "model") -> Path:
    """The model in float32."""
    where.mkdir(parents=True, exist_ok=True)
    file = write_checkpoint(replace(SHAPE, tied=tied), where / f"{name}.gguf").path
    to_folder(file, where / name, TensorType.F32)
    return where / name


def sequences(n: int, length: int = 24, *, seed: int = 0) -> list[Encoded]:
    """Random tokens, all of them labelled."""
    draws = np.random.default_rng(seed)
    made = [draws.integers(3, SHAPE.vocab_size, length).astype(np.int32) for _ in range(n)]
    return [Encoded(tokens, tokens.copy()) for tokens in made]
