"""Phi-3, Phi-3.5 and Phi-4 (arXiv:2404.14219, arXiv:2503.01743): Llama with fused matrices, and LongRoPE for long
contexts; Phi-4-mini rotates three quarters of a head.
"""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Names, Parts, canonical_tensors
from madang.formats.families.reading import (
    Dims,
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
    with_window,
)
from madang.formats.families.reshaping import fused
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} ffn_norm {GATED}")


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``phi3.*``."""
    dims = gguf_dims(file)
    names = _fused(GGUF, dims, "attn_qkv", "ffn_up")
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", handled=("attention.sliding_window",))
    return ModelDescription(with_window(spec, file.get_int("phi3.attention.sliding_window", 0)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``phi3`` folder. What early files call "yarn" is LongRoPE."""
    for key in ("rope_scaling.type", "rope_scaling.rope_type", "rope_parameters.rope_type"):
        if folder.metadata.get(key) == "yarn":
            folder = replace(folder, metadata={**folder.metadata, key: "longrope"})
    dims = folder_dims(folder)
    names = _fused(LLAMA, dims, "self_attn.qkv_proj", "mlp.gate_up_proj")
    tensors = untied(folder, canonical_tensors(folder, names, _PARTS, dims.n_layers), default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    spec = with_window(spec, folder.get_int("sliding_window", 0))
    return ModelDescription(replace(spec, activation=activation(folder)), tensors)


def _fused(names: Names, dims: Dims, qkv: str, gate_up: str) -> Names:
    return names.using({qkv: fused(dims.query_rows), gate_up: fused({"ffn_gate": dims.n_ff, "ffn_up": dims.n_ff})})
