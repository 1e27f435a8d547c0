"""Llama and everything built like it: SmolLM, TinyLlama, Mistral, Vicuna, CodeLlama, DeepSeek-Coder, Midm 2, Kanana.

RMSNorm before attention and feed-forward, rotary positions, grouped queries, SwiGLU (arXiv:2302.13971,
arXiv:2307.09288); Mistral adds a sliding window (arXiv:2310.06825). GGUF files hold query and key rows permuted so that
rotated pairs are neighbours.
"""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families import mixtral
from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, has
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Parts, biased, canonical_tensors
from madang.formats.families.pooling import folder_embedding, gguf_embedding
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
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} {biased(ATTENTION, '?')} ffn_norm {GATED} {biased(GATED, '?')}")


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``llama.*``, which is also what Mistral and Mixtral are called."""
    if file.get_int("llama.expert_count", 0):
        return mixtral.describe_gguf(file)
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="interleaved", handled=("attention.sliding_window",))
    window = file.get_int("llama.attention.sliding_window", 0)
    return ModelDescription(with_window(spec, window), tensors, gguf_embedding(file))


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``llama`` or ``mistral`` folder."""
    is_mistral = folder.architecture == "mistral"
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, LLAMA, _PARTS, dims.n_layers), default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    window = folder.get_int("sliding_window", 0) if is_mistral else 0
    return ModelDescription(
        replace(with_window(spec, window), activation=activation(folder)), tensors, folder_embedding(folder)
    )


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``llama.*``, for Mistral and Mixtral too."""
    return usual_form("llama", description, interleaved=True)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``llama`` folder, or ``mistral`` or ``mixtral`` for what only they have."""
    if description.spec.experts is not None:
        return mixtral.folder_form(file, description)
    window = max(description.spec.window_tokens)
    if window:
        return FolderForm(
            LLAMA, "model.", folder_config(description, "mistral", "MistralForCausalLM", sliding_window=window)
        )
    biases = {"attention_bias": has(description, "query.bias"), "mlp_bias": has(description, "ffn_up.bias")}
    return FolderForm(LLAMA, "model.", folder_config(description, "llama", "LlamaForCausalLM", **biases))
