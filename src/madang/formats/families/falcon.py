"""Falcon (arXiv:2311.16867): attention and feed-forward side by side, from one norm (7B) or from one each (40B and
180B), few key-value heads, no biases. The small ones with ALiBi instead of rotation are refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, has, query_rows, renamed
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GGUF, PLAIN, Entry, Names, Parts, biased, canonical_tensors
from madang.formats.families.reading import (
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
)
from madang.formats.families.reshaping import fused, grouped
from madang.formats.families.sources import Source, require_off, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_PARTS = Parts(
    f"attention_norm attention_norm.bias {ATTENTION} {biased(ATTENTION, '?')} ffn_norm? ffn_norm.bias? {PLAIN} "
    f"{biased(PLAIN, '?')}",
    top="token_embedding output_norm output_norm.bias output?",
)
_TWO_NORMS: Final = {"attn_norm": "ffn_norm", "attn_norm_2": "attention_norm"}
_FOLDER = Names(
    top={"word_embeddings": "token_embedding", "ln_f": "output_norm", "lm_head": "output"},
    layer={
        "input_layernorm": "attention_norm",
        "ln_attn": "attention_norm",
        "ln_mlp": "ffn_norm",
        "self_attention.dense": "attention_output",
        "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
    },
    layers="h",
    prefixes=("transformer.",),
    ignored=r".*\.(inv_freq|masked_bias)",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``falcon.*``. With two norms, ``attn_norm`` is the feed-forward's and ``attn_norm_2`` attention's."""
    dims = gguf_dims(file)
    names = GGUF.using({"attn_qkv": fused(dims.query_rows)})
    if "blk.0.attn_norm_2.weight" in file.tensors:
        names = names.using(_TWO_NORMS)
    tensors = canonical_tensors(file, names, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", norm="layer")
    return ModelDescription(replace(spec, parallel=True, gated=False, activation="gelu"), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``falcon`` folder, or one with the names it had at first (``RefinedWeb``, ``RefinedWebModel``)."""
    folder = folder.with_aliases(
        num_hidden_layers="n_layer",
        num_attention_heads="n_head",
        num_kv_heads="n_head_kv",
        layer_norm_epsilon="layer_norm_eps",
    ).with_defaults(layer_norm_epsilon=1e-5, max_position_embeddings=2048)
    _require_rotation(folder)
    n_embd, n_heads = folder.require_int("hidden_size", low=1), folder.require_int("num_attention_heads", low=1)
    is_new = folder.get_bool("new_decoder_architecture", False)
    many = folder.get_int("num_kv_heads", n_heads, low=1)
    n_kv_heads = 1 if folder.get_bool("multi_query", True) and not is_new else many
    dims = folder_dims(folder, n_ff=folder.get_int("ffn_hidden_size", 4 * n_embd, low=1))
    dims = replace(dims, n_kv_heads=n_kv_heads)
    if dims.n_heads % n_kv_heads:
        raise unsupported(folder, f"the sharing of {n_kv_heads} key-value heads by {n_heads}")
    names = _FOLDER.using({"self_attention.query_key_value": grouped(n_heads, n_kv_heads, dims.head_dim)})
    tensors = untied(folder, canonical_tensors(folder, names, _PARTS, dims.n_layers), default=True)
    rotation = usual_rope(folder, dims)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, norm="layer", epsilon="layer_norm_epsilon")
    act = activation(folder, "activation", "gelu")
    return ModelDescription(replace(spec, parallel=True, gated=False, activation=act), tensors)


def _require_rotation(source: Source) -> None:
    require_off(source, "alibi")
    if not (source.get_bool("parallel_attn", True) or source.get_bool("new_decoder_architecture", False)):
        raise unsupported(source, "the setting 'parallel_attn'")


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``falcon.*``."""
    qkv: dict[str, Entry] = {"attn_qkv": fused(query_rows(description.spec))}
    return usual_form("falcon", description, qkv | (_TWO_NORMS if has(description, "ffn_norm") else {}))


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``falcon`` folder: with one key-value head and one norm, the form of the 7B."""
    spec = description.spec
    two_norms = has(description, "ffn_norm")
    is_old = spec.n_kv_heads == 1 and not two_norms
    qkv = grouped(spec.n_heads, spec.n_kv_heads, spec.head_dim)
    layer = {
        name: entry for name, entry in _FOLDER.layer.items() if name != ("input_layernorm" if two_norms else "ln_attn")
    }
    config = folder_config(
        description,
        "falcon",
        "FalconForCausalLM",
        alibi=False,
        bias=has(description, "query.bias"),
        parallel_attn=True,
        multi_query=True,
        new_decoder_architecture=not is_old,
        num_ln_in_parallel_attn=None if is_old else 1 + two_norms,
    )
    names = {"num_key_value_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size", "hidden_act": "activation"}
    config = renamed(config, **names, layer_norm_eps="layer_norm_epsilon", head_dim=None)
    return FolderForm(replace(_FOLDER, layer={"self_attention.query_key_value": qkv, **layer}), "transformer.", config)
