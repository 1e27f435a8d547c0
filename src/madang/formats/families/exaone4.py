"""EXAONE 4 (arXiv:2507.11407): norms only after each branch and on each head. The large one has a window in three of
four layers, and rotates in those only; the small one rotates everywhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from madang.core.errors import MalformedFile
from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, layer_types
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Parts, canonical_tensors
from madang.formats.families.reading import (
    activation,
    every,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_sliding_layers,
    gguf_spec,
    sliding_layers,
    untied,
    usual_rope,
    with_window,
)
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.gguf_writing import ValueToWrite
from madang.formats.spec import DecoderSpec, ModelDescription

_PARTS = Parts(f"{ATTENTION} query_norm key_norm attention_post_norm {GATED} ffn_post_norm")
_FOLDER = LLAMA.using(
    {
        "self_attn.q_norm": "query_norm",
        "self_attn.k_norm": "key_norm",
        "post_attention_layernorm": "attention_post_norm",
        "post_feedforward_layernorm": "ffn_post_norm",
    }
)
_PERIOD = 4


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``exaone4.*``."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="half", handled=("attention.sliding_window",))
    window = file.get_int("exaone4.attention.sliding_window", 0)
    return ModelDescription(_hybrid(spec, window, gguf_sliding_layers(file, dims.n_layers, _PERIOD)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read an ``exaone4`` folder."""
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, _FOLDER, _PARTS, dims.n_layers), default=False)
    spec = replace(folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims)), activation=activation(folder))
    slides = sliding_layers(folder, dims.n_layers) or _pattern(folder, dims.n_layers)
    return ModelDescription(_hybrid(spec, folder.get_int("sliding_window", 0), slides), tensors)


def _pattern(folder: ModelFolder, n_layers: int) -> tuple[bool, ...]:
    """``sliding_window_pattern``: a period, or letters such as LLLG that repeat."""
    key = "sliding_window_pattern"
    if not isinstance(folder.metadata.get(key), str):
        return every(folder.get_int(key, _PERIOD, low=1), n_layers)
    letters = folder.require_str(key)
    if not letters or set(letters) - set("LG"):
        raise MalformedFile(folder.path, f"'{key}' is not made of L and G")
    return tuple(letters[layer % len(letters)] == "L" for layer in range(n_layers))


def _hybrid(spec: DecoderSpec, window: int, slides: tuple[bool, ...]) -> DecoderSpec:
    if not window:
        return spec
    ropes = tuple(rope if is_local else None for is_local, rope in zip(slides, spec.ropes, strict=True))
    return replace(with_window(spec, window, slides), ropes=ropes)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``exaone4.*``; which layers rotate follows from which have a window."""
    windows = description.spec.window_tokens
    pattern: dict[str, ValueToWrite] = (
        {"attention.sliding_window_pattern": np.array(windows) > 0} if any(windows) else {}
    )
    return usual_form("exaone4", description, metadata=pattern)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write an ``exaone4`` folder."""
    spec = description.spec
    window = max(spec.window_tokens) or None
    more = {"sliding_window": window, "sliding_window_pattern": _PERIOD if window else None}
    config = folder_config(description, "exaone4", "Exaone4ForCausalLM", layer_types=layer_types(spec), **more)
    return FolderForm(_FOLDER, "model.", config)
