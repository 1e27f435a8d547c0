"""Gemma (arXiv:2403.08295): large heads, GELU gates, embeddings times sqrt(n_embd), norms kept as distance from one."""

from __future__ import annotations

import math
from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Names, Parts, canonical_tensors
from madang.formats.families.reading import folder_dims, folder_spec, gguf_dims, gguf_spec, usual_rope
from madang.formats.families.reshaping import plus_one
from madang.formats.families.sources import require_off
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.tensors import TensorSource

# Gemma's output is always its embedding; some checkpoints carry a copy of it.
_PARTS = Parts(f"attention_norm {ATTENTION} ffn_norm {GATED}", top="token_embedding output_norm output?")
_FOLDER = LLAMA.using(
    {
        "input_layernorm": plus_one("attention_norm"),
        "post_attention_layernorm": plus_one("ffn_norm"),
    },
    top={"norm": plus_one("output_norm")},
)
# With norms around each branch as well (gemma2.py, gemma3.py).
SANDWICH = Parts(
    f"attention_norm {ATTENTION} query_norm? key_norm? attention_post_norm ffn_norm {GATED} ffn_post_norm",
    top="token_embedding output_norm output?",
)
SANDWICH_FOLDER: Names = _FOLDER.using(
    {
        "self_attn.q_norm": plus_one("query_norm"),
        "self_attn.k_norm": plus_one("key_norm"),
        "post_attention_layernorm": plus_one("attention_post_norm"),
        "pre_feedforward_layernorm": plus_one("ffn_norm"),
        "post_feedforward_layernorm": plus_one("ffn_post_norm"),
    }
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``gemma.*``."""
    dims = gguf_dims(file)
    tensors = tied(canonical_tensors(file, GGUF, _PARTS, dims.n_layers))
    return ModelDescription(gemma_spec(gguf_spec(file, dims, tensors, layout="half")), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``gemma`` folder. Its ``hidden_act`` says "gelu" in old files and means the approximation."""
    folder = folder.with_defaults(head_dim=256, rms_norm_eps=1e-6)
    require_off(folder, "use_bidirectional_attention", "attention_bias")
    dims = folder_dims(folder)
    tensors = tied(canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers))
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims))
    return ModelDescription(gemma_spec(spec), tensors)


def gemma_spec(spec: DecoderSpec) -> DecoderSpec:
    """What all Gemmas have in common."""
    return replace(spec, activation="gelu_tanh", embedding_scale=math.sqrt(spec.n_embd))


def tied(tensors: dict[str, TensorSource]) -> dict[str, TensorSource]:
    """Without the output matrix."""
    return {name: tensor for name, tensor in tensors.items() if name != "output"}


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``gemma.*``."""
    return usual_form("gemma", description)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``gemma`` folder."""
    act = {"hidden_activation": "gelu_pytorch_tanh"}
    return FolderForm(_FOLDER, "model.", folder_config(description, "gemma", "GemmaForCausalLM", **act))
