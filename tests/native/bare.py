"""Decoders made of numpy arrays, without a file: shapes that no model has, to look at one part at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from madang import _core
from madang.formats.rope import base_frequencies
from madang.formats.tensors import TensorType
from tests.parity.blocks import encode

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class BareModel:
    """Sizes, small by default; ``windows`` per layer; ``edits`` have the last word on the shape."""

    n_embd: int = 32
    n_heads: int = 2
    n_kv_heads: int = 1
    head_dim: int = 16
    n_ff: int = 32
    vocab_size: int = 40
    windows: tuple[int, ...] = (0,)
    tied: bool = True
    edits: Mapping[str, Any] = field(default_factory=dict)

    def shape(self) -> _core.DecoderShape:
        """For the core."""
        shape = _core.DecoderShape()
        values = {
            "n_layers": len(self.windows),
            "n_embd": self.n_embd,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "n_ff": self.n_ff,
            "vocab_size": self.vocab_size,
            "norm_epsilon": 1e-5,
            "ropes": [_core.Rope(True, base_frequencies(10_000.0, self.head_dim).tolist())],
            "layer_ropes": [0] * len(self.windows),
            "window_tokens": list(self.windows),
            **self.edits,
        }
        for name, value in values.items():
            setattr(shape, name, value)
        return shape

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every tensor by its canonical name."""
        heads, kv_heads, n_embd = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim, self.n_embd
        sizes = {"token_embedding": (self.vocab_size, n_embd), "output_norm": (1, n_embd)}
        if not self.tied:
            sizes["output"] = (self.vocab_size, n_embd)
        for layer in range(len(self.windows)):
            parts = {
                "attention_norm": (1, n_embd),
                "query": (heads, n_embd),
                "key": (kv_heads, n_embd),
                "value": (kv_heads, n_embd),
                "attention_output": (n_embd, heads),
                "ffn_norm": (1, n_embd),
                "ffn_gate": (self.n_ff, n_embd),
                "ffn_up": (self.n_ff, n_embd),
                "ffn_down": (n_embd, self.n_ff),
            }
            sizes |= {f"{layer}.{part}": size for part, size in parts.items()}
        return sizes

    def random_tensors(self) -> dict[str, Array]:
        """Weights that make attention and logits far from uniform; a few columns of the norms stand far out."""
        rng = np.random.default_rng(0)
        tensors: dict[str, Array] = {}
        for name, size in self.sizes().items():
            if "norm" in name:
                tensors[name] = rng.uniform(0.5, 1.5, size) * np.where(rng.random(size) < 0.02, 5, 1)
            else:
                tensors[name] = rng.normal(0, 1.5 / np.sqrt(size[1]), size)
        return tensors


def set_array(decoder: _core.Decoder, name: str, array: Array, tensor_type: TensorType = TensorType.F32) -> None:
    """Encode ``array``, [rows, columns], and hand it over."""
    rows, columns = array.shape
    encoded = encode(array.astype(np.float32), tensor_type, np.random.default_rng(len(name)))
    decoder.set_tensor(name, int(tensor_type), rows, columns, np.ascontiguousarray(encoded).view(np.uint8).reshape(-1))


def bare_decoder(
    model: BareModel,
    matrix_type: TensorType = TensorType.F32,
    kv_type: str = "f16",
    *,
    n_threads: int = 1,
    isa: str = "",
) -> _core.Decoder:
    """With random weights, ready to step."""
    decoder = _core.Decoder(model.shape(), n_threads, isa, kv_type=_core.KvType[kv_type])
    for name, array in model.random_tensors().items():
        set_array(decoder, name, array, TensorType.F32 if "norm" in name else matrix_type)
    decoder.complete()
    return decoder
