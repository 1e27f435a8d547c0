"""Nomic Embed (arXiv:2402.01613): BERT with rotation in place of learned positions, SwiGLU and few biases."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.encoders import (
    DEFAULT_EMBEDDING,
    TYPE_EMBEDDING,
    as_encoder,
    describe_gguf_encoder,
    encoder_config,
    gguf_encoder_form,
)
from madang.formats.families.forms import FolderForm, GGUFForm, query_rows
from madang.formats.families.names import ATTENTION, GATED, Names, Parts, biased, canonical_tensors
from madang.formats.families.pooling import folder_embedding
from madang.formats.families.reading import folder_dims, folder_spec, usual_rope
from madang.formats.families.reshaping import fused
from madang.formats.families.sources import require_neutral, require_off, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_NORMS = "attention_post_norm ffn_post_norm"
_PARTS = Parts(
    f"{ATTENTION} {GATED} {_NORMS} {biased(_NORMS)}",
    top="token_embedding type_embedding? embedding_norm embedding_norm.bias",
)
_FOLDER = Names(
    top={
        "embeddings.word_embeddings": "token_embedding",
        "embeddings.token_type_embeddings": TYPE_EMBEDDING,
        "emb_ln": "embedding_norm",
    },
    layer={
        "attn.out_proj": "attention_output",
        "norm1": "attention_post_norm",
        "mlp.fc11": "ffn_up",
        "mlp.fc12": "ffn_gate",
        "mlp.fc2": "ffn_down",
        "norm2": "ffn_post_norm",
    },
    layers="encoder.layers",
    prefixes=("bert.",),
    ignored=r"cls\..*|.*\.rotary_emb\.inv_freq|embeddings\.position_ids",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``nomic-bert.*``."""
    return describe_gguf_encoder(file, _PARTS, layout="half")


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``nomic_bert`` folder: transformers' names, or those of the repositories that came before it."""
    require_off(folder, "causal", "prenorm", "rotary_emb_interleaved", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias")
    require_neutral(folder, {"rotary_emb_fraction": (1,), "moe_every_n_layers": (0,)})
    for key, expected in (("activation_function", "swiglu"), ("hidden_act", "silu")):
        if folder.get_str(key, expected) != expected:
            raise unsupported(folder, f"the setting '{key}'")
    folder = folder.with_aliases(
        num_hidden_layers="n_layer",
        hidden_size="n_embd",
        num_attention_heads="n_head",
        intermediate_size="n_inner",
        max_position_embeddings="n_positions",
        layer_norm_eps="layer_norm_epsilon",
        rope_theta="rotary_emb_base",
    )
    dims = folder_dims(folder)
    trained = folder.get_int("max_trained_positions", dims.context_tokens, low=1)
    dims = replace(dims, context_tokens=min(dims.context_tokens, trained))
    names = _FOLDER.using({"attn.Wqkv": fused(dims.query_rows)})
    tensors = canonical_tensors(folder, names, _PARTS, dims.n_layers)
    rotation = usual_rope(folder, dims, theta=1000.0)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, norm="layer", epsilon="layer_norm_eps")
    return ModelDescription(as_encoder(spec), tensors, folder_embedding(folder, DEFAULT_EMBEDDING))


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``nomic-bert.*``."""
    return gguf_encoder_form("nomic-bert", description, {"attn_qkv": fused(query_rows(description.spec))})


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``nomic_bert`` folder with transformers' names."""
    names = _FOLDER.using({"attn.Wqkv": fused(query_rows(description.spec))})
    return FolderForm(names, "", encoder_config(description, "nomic_bert", "NomicBertModel"))
