"""Phi-1, Phi-1.5 and Phi-2 (arXiv:2309.05463), ``phi2`` in GGUF: one LayerNorm for attention and feed-forward, which
run side by side; biases everywhere, also on the output; part of each head is rotated.
"""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, renamed
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GGUF, PLAIN, Names, Parts, biased, canonical_tensors
from madang.formats.families.reading import (
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
)
from madang.formats.families.reshaping import fused
from madang.formats.families.sources import require_off
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_PARTS = Parts(
    f"{ATTENTION} {PLAIN} attention_norm {biased(f'attention_norm {ATTENTION} {PLAIN}')}",
    top="token_embedding output_norm output_norm.bias output? output.bias?",
)
_FOLDER = Names(
    top={"embed_tokens": "token_embedding", "final_layernorm": "output_norm", "lm_head": "output"},
    layer={
        "input_layernorm": "attention_norm",
        "self_attn.q_proj": "query",
        "self_attn.k_proj": "key",
        "self_attn.v_proj": "value",
        "self_attn.dense": "attention_output",
        "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down",
    },
    layers="layers",
    prefixes=("model.",),
    ignored=r".*\.rotary_emb\.inv_freq",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``phi2.*``; old files have query, key and value in one matrix."""
    dims = gguf_dims(file)
    names = GGUF.using({"attn_qkv": fused(dims.query_rows)})
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", norm="layer")
    return ModelDescription(replace(spec, parallel=True, gated=False, activation="gelu_tanh"), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``phi`` folder."""
    require_off(folder, "qk_layernorm")
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers), default=False)
    rotation = usual_rope(folder, dims, partial=0.5)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, norm="layer", epsilon="layer_norm_eps")
    act = activation(folder, default="gelu_new")
    return ModelDescription(replace(spec, parallel=True, gated=False, activation=act), tensors)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``phi2.*``."""
    return usual_form("phi2", description)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``phi`` folder."""
    config = folder_config(description, "phi", "PhiForCausalLM", hidden_act="gelu_new", qk_layernorm=False)
    return FolderForm(_FOLDER, "model.", renamed(config, head_dim=None))
