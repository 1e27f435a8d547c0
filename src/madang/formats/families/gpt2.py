"""GPT-2: learned positions, LayerNorm, one fused matrix for query, key and value, weights with inputs as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, query_rows, renamed
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GGUF, PLAIN, Names, Parts, biased, canonical_tensors
from madang.formats.families.reading import activation, folder_dims, folder_spec, gguf_dims, gguf_spec, untied
from madang.formats.families.reshaping import fused, transposed
from madang.formats.families.sources import require_off, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_LAYER = f"attention_norm {ATTENTION} ffn_norm {PLAIN}"
_PARTS = Parts(
    f"{_LAYER} {biased(_LAYER)}",
    top="token_embedding position_embedding output_norm output_norm.bias output?",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``gpt2.*``."""
    dims = gguf_dims(file)
    names = GGUF.using({"attn_qkv": fused(dims.query_rows)})
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout=None, norm="layer")
    return ModelDescription(replace(spec, gated=False, activation="gelu_tanh"), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``gpt2`` folder."""
    folder = folder.with_aliases(
        num_hidden_layers="n_layer",
        hidden_size="n_embd",
        num_attention_heads="n_head",
        intermediate_size="n_inner",
        max_position_embeddings="n_positions",
    )
    folder = folder.with_defaults(intermediate_size=4 * folder.require_int("hidden_size", low=1))
    require_off(folder, "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    if not folder.get_bool("scale_attn_weights", True):
        raise unsupported(folder, "the setting 'scale_attn_weights'")
    dims = folder_dims(folder)
    names = _folder_names(dims.query_rows, dims.n_embd, dims.n_ff)
    tensors = untied(folder, canonical_tensors(folder, names, _PARTS, dims.n_layers), default=True)
    spec = folder_spec(folder, dims, tensors, rotation=None, norm="layer", epsilon="layer_norm_epsilon")
    act = activation(folder, "activation_function", "gelu_new")
    return ModelDescription(replace(spec, gated=False, activation=act), tensors)


def _folder_names(rows: Mapping[str, int], n_embd: int, n_ff: int) -> Names:
    return Names(
        top={"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "output_norm", "lm_head": "output"},
        layer={
            "ln_1": "attention_norm",
            "attn.c_attn": transposed(rows),
            "attn.c_proj": transposed({"attention_output": n_embd}),
            "ln_2": "ffn_norm",
            "mlp.c_fc": transposed({"ffn_up": n_ff}),
            "mlp.c_proj": transposed({"ffn_down": n_embd}),
        },
        layers="h",
        prefixes=("transformer.",),
        ignored=r".*\.attn\.(bias|masked_bias)",  # masks
    )


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``gpt2.*``."""
    return usual_form("gpt2", description, {"attn_qkv": fused(query_rows(description.spec))})


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``gpt2`` folder."""
    spec = description.spec
    config = folder_config(description, "gpt2", "GPT2LMHeadModel", hidden_act="gelu_new")
    config = renamed(
        config,
        num_hidden_layers="n_layer",
        hidden_size="n_embd",
        num_attention_heads="n_head",
        intermediate_size="n_inner",
        max_position_embeddings="n_positions",
        layer_norm_eps="layer_norm_epsilon",
        hidden_act="activation_function",
        num_key_value_heads=None,
        head_dim=None,
    )
    return FolderForm(_folder_names(query_rows(spec), spec.n_embd, spec.n_ff), "transformer.", config)
