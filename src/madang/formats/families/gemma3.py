"""Gemma 3 (arXiv:2503.19786), the text part: five layers with a window and a rotation of their own for each without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from madang.formats.families.forms import FolderForm, GGUFForm, folder_config
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.gemma import SANDWICH, SANDWICH_FOLDER, gemma_spec, tied
from madang.formats.families.gemma2 import gguf_attention_scale, sandwich_config
from madang.formats.families.names import GGUF, canonical_tensors
from madang.formats.families.reading import (
    every,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_sliding_layers,
    gguf_spec,
    sliding_layers,
    with_window,
)
from madang.formats.families.ropes import folder_rope
from madang.formats.families.sources import require_off
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.gguf_writing import ValueToWrite
from madang.formats.rope import base_frequencies
from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec

_PERIOD = 6
_LOCAL_THETA, _GLOBAL_THETA = 10_000.0, 1_000_000.0
_LAYERS_OF_27B = 62
_NAMES = replace(
    SANDWICH_FOLDER,
    prefixes=("language_model.model.", "model.language_model.", "language_model.", "model."),
    ignored=r"(model\.)?(vision_tower|multi_modal_projector)\..*",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``gemma3.*``. Layers with a window have the unscaled rotation that the first Gemmas had."""
    dims = gguf_dims(file)
    tensors = tied(canonical_tensors(file, GGUF, SANDWICH, dims.n_layers))
    spec = gguf_spec(
        file, dims, tensors, layout="half", handled=("final_logit_softcapping", "attention.sliding_window")
    )
    window = file.get_int("gemma3.attention.sliding_window", 0)
    slides = gguf_sliding_layers(file, dims.n_layers, _PERIOD if window else 1)
    theta = file.get_float("gemma3.rope.freq_base_swa", _LOCAL_THETA, low=2)
    local = RopeSpec("half", tuple(base_frequencies(theta, dims.head_dim).tolist()))
    spec = replace(
        _with_local_layers(gemma_spec(spec), window, slides, local),
        attention_scale=gguf_attention_scale(dims, _LAYERS_OF_27B),
        logit_softcap=file.get_float("gemma3.final_logit_softcapping", 0.0, low=0) or None,
    )
    return ModelDescription(spec, tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``gemma3_text`` folder, or the text part of a ``gemma3`` one."""
    text = folder.section("text_config") if folder.architecture == "gemma3" else folder
    text = text.with_aliases(sliding_window_pattern="_sliding_window_pattern", rope_local_theta="rope_local_base_freq")
    text = text.with_defaults(
        model_type="gemma3_text",
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        rms_norm_eps=1e-6,
        query_pre_attn_scalar=256,
        max_position_embeddings=131_072,
        sliding_window=4096,
        sliding_window_pattern=_PERIOD,
    )
    require_off(text, "use_bidirectional_attention", "attention_bias")
    dims = folder_dims(text)
    tensors = tied(canonical_tensors(text, _NAMES, SANDWICH, dims.n_layers))
    rotation = folder_rope(text, dims.head_dim, section="full_attention", theta=_GLOBAL_THETA)
    own = text.get_float("rope_local_theta", _LOCAL_THETA, low=2)
    plain = replace(text, metadata={key: value for key, value in text.metadata.items() if key != "rope_theta"})
    local = folder_rope(plain, dims.head_dim, section="sliding_attention", theta=own).rope
    slides = sliding_layers(text, dims.n_layers) or every(
        text.require_int("sliding_window_pattern", low=1), dims.n_layers
    )
    spec = gemma_spec(folder_spec(text, dims, tensors, rotation=rotation))
    spec = replace(
        _with_local_layers(spec, text.require_int("sliding_window", low=1), slides, local),
        attention_scale=text.require_float("query_pre_attn_scalar", low=1e-6) ** -0.5,
        attention_softcap=text.get_float("attn_logit_softcapping", None, low=1e-6),
        logit_softcap=text.get_float("final_logit_softcapping", None, low=1e-6),
    )
    return ModelDescription(spec, tensors)


def _with_local_layers(spec: DecoderSpec, window: int, slides: tuple[bool, ...], local: RopeSpec) -> DecoderSpec:
    ropes = tuple(local if is_local else rope for is_local, rope in zip(slides, spec.ropes, strict=True))
    return replace(with_window(spec, window, slides), ropes=ropes)


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``gemma3.*``."""
    keys: dict[str, ValueToWrite] = {"rope.freq_base_swa": _local_theta(description.spec)}
    if description.spec.logit_softcap is not None:
        keys["final_logit_softcapping"] = description.spec.logit_softcap
    return usual_form("gemma3", description, metadata=keys)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``gemma3_text`` folder."""
    spec = description.spec
    config = folder_config(description, "gemma3_text", "Gemma3ForCausalLM", **sandwich_config(spec))
    local = {"rope_type": "default", "rope_theta": _local_theta(spec)}
    config["rope_parameters"] = {"full_attention": config["rope_parameters"], "sliding_attention": local}
    config["rope_local_base_freq"] = local["rope_theta"]
    return FolderForm(_NAMES, "model.", config)


def _local_theta(spec: DecoderSpec) -> float:
    """The base of the layers with a window, from the second of their frequencies."""
    ropes = (rope for rope, window in zip(spec.ropes, spec.window_tokens, strict=True) if window and rope is not None)
    rope = next(ropes, None)
    if rope is None:
        return _LOCAL_THETA
    frequencies = rope.inverse_frequencies
    return float(np.float32(frequencies[1] ** -len(frequencies)))
