"""StableLM (arXiv:2402.17834): LayerNorm, partial rotation; version 2 adds biases on query, key and value, and its 12B
normalizes each head with weights of its own and runs attention and feed-forward side by side.
"""

from __future__ import annotations

from dataclasses import replace

from madang.core.errors import MalformedFile
from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, has, renamed
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Parts, biased, canonical_tensors
from madang.formats.families.reading import (
    Dims,
    activation,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    untied,
    usual_rope,
)
from madang.formats.families.reshaping import stacked
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorInfo, TensorSource, rows_of

_TOP = "token_embedding output_norm output_norm.bias output?"
_ALWAYS = f"attention_norm attention_norm.bias {ATTENTION} {biased('query key value', '?')} {GATED}"
_PARTS = Parts(f"{_ALWAYS} ffn_norm? ffn_norm.bias? query_norm? key_norm?", top=_TOP)
_FOLDER_PARTS = Parts(f"{_ALWAYS} ffn_norm? ffn_norm.bias? query_norm.*? key_norm.*?", top=_TOP)
_FOLDER = LLAMA.using({"self_attn.q_layernorm.norms.*": "query_norm.*", "self_attn.k_layernorm.norms.*": "key_norm.*"})


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``stablelm.*``."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", norm="layer")
    # The key "use_parallel_residual" says True in files that are not; the norm does not lie.
    return ModelDescription(replace(spec, parallel="0.ffn_norm" not in tensors), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``stablelm`` folder."""
    folder = folder.with_aliases(partial_rotary_factor="rope_pct", layer_norm_eps="norm_eps")
    dims = folder_dims(folder)
    tensors = canonical_tensors(folder, _FOLDER, _FOLDER_PARTS, dims.n_layers, dims.n_heads)
    tensors = _with_stacked_norms(folder, dims, untied(folder, tensors, default=False))
    is_parallel = folder.get_bool("use_parallel_residual", False)
    if is_parallel == ("0.ffn_norm" in tensors):
        raise MalformedFile(folder.path, "'use_parallel_residual' and the feed-forward's norms contradict each other")
    rotation = usual_rope(folder, dims, partial=0.25)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, norm="layer", epsilon="layer_norm_eps")
    return ModelDescription(replace(spec, parallel=is_parallel, activation=activation(folder)), tensors)


def _with_stacked_norms(folder: ModelFolder, dims: Dims, tensors: dict[str, TensorSource]) -> dict[str, TensorSource]:
    """Each head's norm is a tensor of its own; the canonical one has a row per head."""
    for layer in range(dims.n_layers):
        for part, n_heads in (("query_norm", dims.n_heads), ("key_norm", dims.n_kv_heads)):
            found = [tensors.pop(f"{layer}.{part}.{head}", None) for head in range(dims.n_heads)]
            heads = [tensor for tensor in found if isinstance(tensor, TensorInfo)]
            if heads and (len(heads) != n_heads or found[len(heads) :].count(None) != dims.n_heads - n_heads):
                raise MalformedFile(folder.path, f"layer {layer} has {len(heads)} of {n_heads} norms for '{part}'")
            if heads:
                tensors[f"{layer}.{part}"] = stacked(heads)
    return tensors


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``stablelm.*``."""
    return usual_form("stablelm", description, metadata={"use_parallel_residual": description.spec.parallel})


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``stablelm`` folder, in which each head's norm is a tensor of its own."""
    tensors: dict[str, TensorSource] = {}
    for name, tensor in description.tensors.items():
        if name.endswith(("query_norm", "key_norm")) and isinstance(tensor, TensorInfo):
            tensors |= {
                f"{name}.{row}": rows_of(tensor, row, row + 1, tensor.shape[1:]) for row in range(tensor.shape[0])
            }
        else:
            tensors[name] = tensor
    config = folder_config(
        description,
        "stablelm",
        "StableLmForCausalLM",
        use_qkv_bias=has(description, "query.bias"),
        qk_layernorm=has(description, "query_norm"),
        use_parallel_residual=description.spec.parallel,
    )
    return FolderForm(_FOLDER, "model.", renamed(config, head_dim=None), tensors)
