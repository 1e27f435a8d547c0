"""Qwen3 (arXiv:2505.09388): RMSNorm on each head's query and key, no biases; with experts as Qwen3-MoE."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, Settings, folder_config, has
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, EXPERTS, GATED, GGUF, LLAMA, Parts, biased, canonical_tensors
from madang.formats.families.pooling import folder_embedding, gguf_embedding
from madang.formats.families.qwen2 import windowed
from madang.formats.families.reading import (
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
)
from madang.formats.families.reshaping import each_expert
from madang.formats.families.sources import require_neutral, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import Experts, ModelDescription

_ATTENTION = f"attention_norm {ATTENTION} {biased(ATTENTION, '?')} query_norm key_norm ffn_norm"
_DENSE, _SPARSE = Parts(f"{_ATTENTION} {GATED}"), Parts(f"{_ATTENTION} {EXPERTS}")
_FOLDER = LLAMA.using(
    {
        "self_attn.q_norm": "query_norm",
        "self_attn.k_norm": "key_norm",
        "mlp.gate": "router",
        "mlp.experts.*.gate_proj": "expert.*.ffn_gate",
        "mlp.experts.*.up_proj": "expert.*.ffn_up",
        "mlp.experts.*.down_proj": "expert.*.ffn_down",
    }
)
_MAX_EXPERTS = 1024


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``qwen3.*`` or ``qwen3moe.*``."""
    if file.architecture == "qwen3moe":
        return _describe_sparse_gguf(file)
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _DENSE, dims.n_layers)
    return ModelDescription(gguf_spec(file, dims, tensors, layout="half"), tensors, gguf_embedding(file))


def _describe_sparse_gguf(file: GGUFFile) -> ModelDescription:
    n_experts = file.require_int("qwen3moe.expert_count", low=1, high=_MAX_EXPERTS)
    n_used = file.require_int("qwen3moe.expert_used_count", low=1, high=n_experts)
    require_neutral(file, {"qwen3moe.expert_gating_func": (0, 1)})  # both are softmax
    dims = gguf_dims(file, n_ff=file.require_int("qwen3moe.expert_feed_forward_length", low=1))
    names = GGUF.using({f"{part}_exps": each_expert(part, n_experts) for part in ("ffn_gate", "ffn_up", "ffn_down")})
    tensors = canonical_tensors(file, names, _SPARSE, dims.n_layers, n_experts)
    spec = gguf_spec(file, dims, tensors, layout="half", handled=("expert_count",))
    return ModelDescription(replace(spec, experts=Experts(n_experts, n_used)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``qwen3`` or ``qwen3_moe`` folder."""
    folder = folder.with_defaults(head_dim=128)
    if folder.architecture == "qwen3_moe":
        return _describe_sparse_folder(folder)
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, _FOLDER, _DENSE, dims.n_layers), default=False)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    spec = replace(windowed(folder, spec), activation=activation(folder))
    return ModelDescription(spec, tensors, folder_embedding(folder))


def _describe_sparse_folder(folder: ModelFolder) -> ModelDescription:
    folder = folder.with_aliases(num_local_experts="num_experts").with_defaults(
        num_local_experts=128, num_experts_per_tok=8, moe_intermediate_size=768
    )
    for key, meaning in (("decoder_sparse_step", 1), ("mlp_only_layers", None)):
        if folder.metadata.get(key, meaning) != meaning:
            raise unsupported(folder, f"the mixture of dense and sparse layers ('{key}')")
    n_experts = folder.require_int("num_local_experts", low=1, high=_MAX_EXPERTS)
    n_used = folder.require_int("num_experts_per_tok", low=1, high=n_experts)
    dims = folder_dims(folder, n_ff=folder.require_int("moe_intermediate_size", low=1))
    tensors = canonical_tensors(folder, _FOLDER, _SPARSE, dims.n_layers, n_experts)
    tensors = untied(folder, tensors, default=False)
    spec = windowed(folder, folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims)))
    experts = Experts(n_experts, n_used, normalized=folder.get_bool("norm_topk_prob", False))
    return ModelDescription(replace(spec, activation=activation(folder), experts=experts), tensors)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``qwen3.*`` or ``qwen3moe.*``."""
    if description.spec.experts is None:
        return usual_form("qwen3", description)
    widths = {"expert_feed_forward_length": description.spec.n_ff}
    widths["feed_forward_length"] = folder.get_int("intermediate_size", description.spec.n_ff)
    return usual_form("qwen3moe", description, metadata=widths)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``qwen3`` or ``qwen3_moe`` folder."""
    experts = description.spec.experts
    more: Settings = {"attention_bias": has(description, "query.bias"), "use_sliding_window": False}
    if experts is None:
        return FolderForm(_FOLDER, "model.", folder_config(description, "qwen3", "Qwen3ForCausalLM", **more))
    more |= {
        "num_experts": experts.n_experts,
        "num_experts_per_tok": experts.n_used,
        "norm_topk_prob": experts.normalized,
        "moe_intermediate_size": description.spec.n_ff,
        "intermediate_size": file.get_int("qwen3moe.feed_forward_length", description.spec.n_ff),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    return FolderForm(_FOLDER, "model.", folder_config(description, "qwen3_moe", "Qwen3MoeForCausalLM", **more))
