"""GPT-2: learned positions, LayerNorm, one fused matrix for query, key and value, weights with inputs as rows."""

from __future__ import annotations

from dataclasses import replace

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
    names = Names(
        top={"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "output_norm", "lm_head": "output"},
        layer={
            "ln_1": "attention_norm",
            "attn.c_attn": transposed(dims.query_rows),
            "attn.c_proj": transposed({"attention_output": dims.n_embd}),
            "ln_2": "ffn_norm",
            "mlp.c_fc": transposed({"ffn_up": dims.n_ff}),
            "mlp.c_proj": transposed({"ffn_down": dims.n_embd}),
        },
        layers="h",
        prefixes=("transformer.",),
        ignored=r".*\.attn\.(bias|masked_bias)",  # masks
    )
    tensors = untied(folder, canonical_tensors(folder, names, _PARTS, dims.n_layers), default=True)
    spec = folder_spec(folder, dims, tensors, rotation=None, norm="layer", epsilon="layer_norm_epsilon")
    act = activation(folder, "activation_function", "gelu_new")
    return ModelDescription(replace(spec, gated=False, activation=act), tensors)
