"""Mixtral (arXiv:2401.04088): Llama with eight feed-forwards, of which a token takes two. Its GGUF name is llama."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, EXPERTS, GGUF, LLAMA, Parts, canonical_tensors
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
from madang.formats.families.reshaping import each_expert
from madang.formats.families.sources import require_neutral
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import Experts, ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} ffn_norm {EXPERTS}")
_FOLDER = LLAMA.using(
    {
        "block_sparse_moe.gate": "router",
        "block_sparse_moe.experts.*.w1": "expert.*.ffn_gate",
        "block_sparse_moe.experts.*.w2": "expert.*.ffn_down",
        "block_sparse_moe.experts.*.w3": "expert.*.ffn_up",
    }
)
_MAX_EXPERTS = 1024


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``llama.*`` with experts."""
    arch = file.architecture
    n_experts = file.require_int(f"{arch}.expert_count", low=1, high=_MAX_EXPERTS)
    n_used = file.require_int(f"{arch}.expert_used_count", low=1, high=n_experts)
    require_neutral(file, {f"{arch}.expert_gating_func": (0, 1)})  # both are softmax
    dims = gguf_dims(file)
    names = GGUF.using({f"{part}_exps": each_expert(part, n_experts) for part in ("ffn_gate", "ffn_up", "ffn_down")})
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers, n_experts)
    handled = ("attention.sliding_window", "expert_count")
    spec = gguf_spec(file, dims, tensors, layout="interleaved", handled=handled)
    window = file.get_int(f"{arch}.attention.sliding_window", 0)
    return ModelDescription(replace(with_window(spec, window), experts=Experts(n_experts, n_used)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``mixtral`` folder."""
    folder = folder.with_defaults(num_local_experts=8, num_experts_per_tok=2)
    n_experts = folder.require_int("num_local_experts", low=1, high=_MAX_EXPERTS)
    n_used = folder.require_int("num_experts_per_tok", low=1, high=n_experts)
    dims = folder_dims(folder)
    tensors = canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers, n_experts)
    tensors = untied(folder, tensors, default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims, theta=1e6))
    spec = with_window(spec, folder.get_int("sliding_window", 0))
    return ModelDescription(replace(spec, activation=activation(folder), experts=Experts(n_experts, n_used)), tensors)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``llama.*`` with experts."""
    return usual_form("llama", description, interleaved=True)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``mixtral`` folder."""
    experts, window = description.spec.experts, max(description.spec.window_tokens)
    more = {} if experts is None else {"num_local_experts": experts.n_experts, "num_experts_per_tok": experts.n_used}
    config = folder_config(description, "mixtral", "MixtralForCausalLM", sliding_window=window or None, **more)
    return FolderForm(_FOLDER, "model.", config)
