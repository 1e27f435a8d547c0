"""EXAONE 3 and 3.5 (arXiv:2408.03541, arXiv:2412.04862): Llama under other names."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Names, Parts, canonical_tensors
from madang.formats.families.reading import (
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
)
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} ffn_norm {GATED}")
_FOLDER = Names(
    top={"wte": "token_embedding", "ln_f": "output_norm", "lm_head": "output"},
    layer={
        "ln_1": "attention_norm",
        "attn.attention.q_proj": "query",
        "attn.attention.k_proj": "key",
        "attn.attention.v_proj": "value",
        "attn.attention.out_proj": "attention_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc_0": "ffn_gate",
        "mlp.c_fc_1": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    layers="h",
    prefixes=("transformer.",),
    ignored=r".*\.(rotary|rotary_emb)\.inv_freq",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``exaone.*``."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    return ModelDescription(gguf_spec(file, dims, tensors, layout="half"), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read an ``exaone`` folder."""
    folder = folder.with_aliases(num_hidden_layers="num_layers")
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers), default=False)
    rotation = usual_rope(folder, dims)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, epsilon="layer_norm_epsilon")
    return ModelDescription(replace(spec, activation=activation(folder, "activation_function")), tensors)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``exaone.*``."""
    return usual_form("exaone", description)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``llama`` folder: it computes the same, and EXAONE's own needs code that comes with the model."""
    return FolderForm(LLAMA, "model.", folder_config(description, "llama", "LlamaForCausalLM"))
