"""Adapters in GGUF files: ``general.type`` is "adapter", ``adapter.type`` is "lora".

Each changed tensor has ``<tensor>.lora_a`` [rank, n_in] and ``<tensor>.lora_b`` [n_out, rank]; what is added is
``adapter.lora.alpha / rank`` times B A, or B A itself when alpha is 0. Source: the GGUF specification
(ggml-org/ggml, docs/gguf.md) and files that its converter writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from madang.core.errors import AdapterMismatch, MalformedFile, UnsupportedModel
from madang.formats.adapters.description import AdapterDescription, FilePair, LowRank, fit
from madang.formats.adapters.reading import load_floats
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorInfo

_FACTOR: Final = re.compile(r"(?P<tensor>.+)\.weight\.lora_(?P<factor>[ab])")
_LAYER: Final = re.compile(r"blk\.(?P<layer>\d{1,5})\.(?P<part>\w+)")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "attn_q": ("query",),
    "attn_k": ("key",),
    "attn_v": ("value",),
    "attn_qkv": ("query", "key", "value"),
    "attn_output": ("attention_output",),
    "ffn_gate": ("ffn_gate",),
    "ffn_up": ("ffn_up",),
    "ffn_down": ("ffn_down",),
}
# The converter permutes the rows of queries and keys of this architecture, Mistral and Mixtral included.
_INTERLEAVED: Final = "llama"


def read(path: Path, model: ModelDescription, name: str) -> AdapterDescription:
    """See read_adapter."""
    file = read_gguf(path)
    if file.get_str("general.type", "model") != "adapter":
        raise MalformedFile(path, "it holds a model, and no adapter")
    kind = file.require_str("adapter.type")
    if kind != "lora":
        raise UnsupportedModel(f"the adapter {path.name} of kind '{kind:.40}'; only 'lora' is")
    base = model.spec.architecture
    if file.architecture != base and _INTERLEAVED not in (file.architecture, base):
        raise AdapterMismatch(name, "general.architecture", f"it is for {file.architecture}, and the model is {base}")
    return fit(name, path, _pairs(file, model), model)


def _pairs(file: GGUFFile, model: ModelDescription) -> Iterator[FilePair]:
    alpha = file.get_float("adapter.lora.alpha", 0.0)
    factors: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in file.tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            raise UnsupportedModel(f"the tensor '{name}' of the adapter {file.path.name}")
        factors.setdefault(match["tensor"], {})[match["factor"]] = tensor
    for name, both in factors.items():
        if both.keys() != {"a", "b"}:
            raise MalformedFile(file.path, f"'{name}' has only one factor")
        a, b = load_floats(both["a"]), load_floats(both["b"])
        scale = np.float32(alpha / len(a) if alpha else 1.0)
        parts = _canonical(file, name, b.shape[0], model)
        yield FilePair(name, parts, LowRank(a, b * scale), rows_interleaved=file.architecture == _INTERLEAVED)


def _canonical(file: GGUFFile, name: str, n_rows: int, model: ModelDescription) -> tuple[str, ...]:
    if name == "output":
        return ("output",)
    match = _LAYER.fullmatch(name)
    if match is None or match["part"] not in _PARTS:
        raise UnsupportedModel(f"the tensor '{name}', which the adapter {file.path.name} changes")
    layer, part = int(match["layer"]), match["part"]
    up = model.tensors.get(f"{layer}.ffn_up")
    if part == "ffn_up" and up is not None and n_rows == 2 * up.shape[0]:  # Phi-3 has gate and up in one
        return f"{layer}.ffn_gate", f"{layer}.ffn_up"
    return tuple(f"{layer}.{canonical}" for canonical in _PARTS[part])
