"""Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama with biases on query, key and value."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Parts, biased, canonical_tensors
from madang.formats.families.pooling import folder_embedding, gguf_embedding
from madang.formats.families.reading import (
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    sliding_layers,
    untied,
    usual_rope,
    with_window,
)
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} {biased('query key value')} ffn_norm {GATED}")


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``qwen2.*``."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    return ModelDescription(gguf_spec(file, dims, tensors, layout="half"), tensors, gguf_embedding(file))


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``qwen2`` folder."""
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, LLAMA, _PARTS, dims.n_layers), default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    spec = replace(windowed(folder, spec), activation=activation(folder))
    return ModelDescription(spec, tensors, folder_embedding(folder))


def windowed(folder: ModelFolder, spec: DecoderSpec) -> DecoderSpec:
    """Qwen's window: off unless ``use_sliding_window``, and then in the layers from ``max_window_layers`` on."""
    if not folder.get_bool("use_sliding_window", False):
        return spec
    first = folder.get_int("max_window_layers", 28)
    slides = sliding_layers(folder, spec.n_layers) or tuple(layer >= first for layer in range(spec.n_layers))
    return with_window(spec, folder.get_int("sliding_window", 4096), slides)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``qwen2.*``."""
    return usual_form("qwen2", description)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``qwen2`` folder."""
    return FolderForm(
        LLAMA, "model.", folder_config(description, "qwen2", "Qwen2ForCausalLM", use_sliding_window=False)
    )
