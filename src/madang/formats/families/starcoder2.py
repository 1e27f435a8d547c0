"""StarCoder2 (arXiv:2402.19173): LayerNorm, GELU without gates, biases everywhere, a sliding window."""

from __future__ import annotations

from dataclasses import replace

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, has, renamed
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GGUF, LLAMA, PLAIN, Parts, biased, canonical_tensors
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
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_NORMS = "attention_norm ffn_norm"
_PARTS = Parts(
    f"{_NORMS} {biased(_NORMS)} {ATTENTION} {PLAIN} {biased(f'{ATTENTION} {PLAIN}', '?')}",
    top="token_embedding output_norm output_norm.bias output?",
)
_FOLDER = LLAMA.using({"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"})


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``starcoder2.*``."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", norm="layer", handled=("attention.sliding_window",))
    spec = with_window(spec, file.get_int("starcoder2.attention.sliding_window", 0))
    return ModelDescription(replace(spec, gated=False, activation="gelu_tanh"), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``starcoder2`` folder."""
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers), default=True)
    rotation = usual_rope(folder, dims)
    spec = folder_spec(folder, dims, tensors, rotation=rotation, norm="layer", epsilon="norm_epsilon")
    spec = with_window(spec, folder.get_int("sliding_window", 0))
    return ModelDescription(
        replace(spec, gated=False, activation=activation(folder, default="gelu_pytorch_tanh")), tensors
    )


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``starcoder2.*``."""
    return usual_form("starcoder2", description)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``starcoder2`` folder."""
    window = max(description.spec.window_tokens) or None
    more = {"use_bias": has(description, "query.bias"), "sliding_window": window}
    config = folder_config(description, "starcoder2", "Starcoder2ForCausalLM", **more)
    return FolderForm(_FOLDER, "model.", renamed(config, layer_norm_eps="norm_epsilon", head_dim=None))
