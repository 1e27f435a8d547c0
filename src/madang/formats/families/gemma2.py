"""Gemma 2 (arXiv:2408.00118): norms after each branch too, a window in every other layer, soft-capped scores."""

from __future__ import annotations

import math
from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, Settings, folder_config, layer_types
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.gemma import SANDWICH, SANDWICH_FOLDER, gemma_spec, tied
from madang.formats.families.names import GGUF, canonical_tensors
from madang.formats.families.reading import (
    Dims,
    every,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_sliding_layers,
    gguf_spec,
    sliding_layers,
    usual_rope,
    with_window,
)
from madang.formats.families.sources import require_off
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, ModelDescription

_SOFTCAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_LAYERS_OF_27B = 46


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``gemma2.*``."""
    dims = gguf_dims(file)
    tensors = tied(canonical_tensors(file, GGUF, SANDWICH, dims.n_layers))
    spec = gguf_spec(file, dims, tensors, layout="half", handled=(*_SOFTCAPS, "attention.sliding_window"))
    slides = gguf_sliding_layers(file, dims.n_layers, 2)
    spec = with_window(gemma_spec(spec), file.get_int("gemma2.attention.sliding_window", 4096), slides)
    spec = replace(
        spec,
        attention_scale=gguf_attention_scale(dims, _LAYERS_OF_27B),
        attention_softcap=file.get_float("gemma2.attn_logit_softcapping", 50.0, low=0) or None,
        logit_softcap=file.get_float("gemma2.final_logit_softcapping", 30.0, low=0) or None,
    )
    return ModelDescription(spec, tensors)


def gguf_attention_scale(dims: Dims, layers_of_27b: int) -> float:
    """No key holds ``query_pre_attn_scalar``: it is the head size, except in the models of 27 billion."""
    scalar = dims.n_embd // dims.n_heads if dims.n_layers == layers_of_27b else dims.head_dim
    return 1 / math.sqrt(scalar)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``gemma2`` folder."""
    folder = folder.with_defaults(head_dim=256, rms_norm_eps=1e-6, query_pre_attn_scalar=256, sliding_window=4096)
    require_off(folder, "use_bidirectional_attention", "attention_bias")
    dims = folder_dims(folder)
    tensors = tied(canonical_tensors(folder, SANDWICH_FOLDER, SANDWICH, dims.n_layers))
    spec = gemma_spec(folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims)))
    slides = sliding_layers(folder, dims.n_layers) or every(2, dims.n_layers)
    spec = replace(
        with_window(spec, folder.require_int("sliding_window", low=1), slides),
        attention_scale=folder.require_float("query_pre_attn_scalar", low=1e-6) ** -0.5,
        attention_softcap=folder.get_float("attn_logit_softcapping", None, low=1e-6),
        logit_softcap=folder.get_float("final_logit_softcapping", None, low=1e-6),
    )
    return ModelDescription(spec, tensors)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``gemma2.*``; a cap of 0 is none."""
    caps = {
        "attn_logit_softcapping": description.spec.attention_softcap or 0.0,
        "final_logit_softcapping": description.spec.logit_softcap or 0.0,
    }
    return usual_form("gemma2", description, metadata=caps)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``gemma2`` folder."""
    config = folder_config(description, "gemma2", "Gemma2ForCausalLM", **sandwich_config(description.spec))
    return FolderForm(SANDWICH_FOLDER, "model.", config)


def sandwich_config(spec: DecoderSpec) -> Settings:
    """What config.json says of windows, caps and the scale of attention."""
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": spec.head_dim if spec.attention_scale is None else round(spec.attention_scale**-2),
        "attn_logit_softcapping": spec.attention_softcap,
        "final_logit_softcapping": spec.logit_softcap,
        "sliding_window": max(spec.window_tokens),
        "layer_types": layer_types(spec),
    }
