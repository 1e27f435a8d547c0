"""Phi-3, Phi-3.5 and Phi-4 (arXiv:2404.14219, arXiv:2503.01743): Llama with fused matrices, and LongRoPE for long
contexts; Phi-4-mini rotates three quarters of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, query_rows
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Entry, Parts, canonical_tensors
from madang.formats.families.reading import (
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
from madang.formats.gguf_writing import ValueToWrite
from madang.formats.spec import ModelDescription

_GGUF_FUSED, _FOLDER_FUSED = ("attn_qkv", "ffn_up"), ("self_attn.qkv_proj", "mlp.gate_up_proj")
_PARTS = Parts(f"attention_norm {ATTENTION} ffn_norm {GATED}")


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``phi3.*``."""
    dims = gguf_dims(file)
    names = GGUF.using(_fusions(dims.query_rows, dims.n_ff, *_GGUF_FUSED))
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", handled=("attention.sliding_window",))
    return ModelDescription(with_window(spec, file.get_int("phi3.attention.sliding_window", 0)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``phi3`` folder. What early files call "yarn" is LongRoPE."""
    for key in ("rope_scaling.type", "rope_scaling.rope_type", "rope_parameters.rope_type"):
        if folder.metadata.get(key) == "yarn":
            folder = replace(folder, metadata={**folder.metadata, key: "longrope"})
    dims = folder_dims(folder)
    names = LLAMA.using(_fusions(dims.query_rows, dims.n_ff, *_FOLDER_FUSED))
    tensors = untied(folder, canonical_tensors(folder, names, _PARTS, dims.n_layers), default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    spec = with_window(spec, folder.get_int("sliding_window", 0))
    return ModelDescription(replace(spec, activation=activation(folder)), tensors)


def _fusions(rows: Mapping[str, int], n_ff: int, qkv: str, gate_up: str) -> Mapping[str, Entry]:
    return {qkv: fused(rows), gate_up: fused({"ffn_gate": n_ff, "ffn_up": n_ff})}


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``phi3.*``; llama.cpp wants to know the original context and the window even where they change nothing."""
    spec = description.spec
    original = folder.get_int("original_max_position_embeddings", spec.context_tokens)
    keys: dict[str, ValueToWrite] = {"attention.sliding_window": max(spec.window_tokens)}
    keys |= {"rope.scaling.original_context_length": original} if spec.long_rope is None else {}
    return usual_form("phi3", description, _fusions(query_rows(spec), spec.n_ff, *_GGUF_FUSED), metadata=keys)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``phi3`` folder."""
    spec = description.spec
    known = file.get_int("phi3.rope.scaling.original_context_length", spec.context_tokens)
    window = max(spec.window_tokens) or None
    more = {"original_max_position_embeddings": known, "sliding_window": window}
    names = LLAMA.using(_fusions(query_rows(spec), spec.n_ff, *_FOLDER_FUSED))
    return FolderForm(names, "model.", folder_config(description, "phi3", "Phi3ForCausalLM", **more))
