"""SmolLM3: Llama whose every fourth layer does not rotate (arXiv:2501.18795)."""

from __future__ import annotations

from dataclasses import replace

from madang.core.errors import MalformedFile
from madang.formats.families.forms import FolderForm, GGUFForm, folder_config, has, layer_types
from madang.formats.families.forms import gguf_form as usual_form
from madang.formats.families.names import ATTENTION, GATED, GGUF, LLAMA, Parts, biased, canonical_tensors
from madang.formats.families.reading import (
    activation,
    every,
    folder_dims,
    folder_spec,
    gguf_dims,
    gguf_spec,
    sliding_layers,
    untied,
    usual_rope,
    with_window,
)
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, ModelDescription

_PARTS = Parts(f"attention_norm {ATTENTION} {biased(ATTENTION, '?')} ffn_norm {GATED} {biased(GATED, '?')}")
_PERIOD = 4  # no GGUF key says it


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``smollm3.*``; rows of query and key are permuted as Llama's are."""
    dims = gguf_dims(file)
    tensors = canonical_tensors(file, GGUF, _PARTS, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout="interleaved")
    return ModelDescription(_rotating(spec, every(_PERIOD, dims.n_layers)), tensors)


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``smollm3`` folder."""
    dims = folder_dims(folder)
    tensors = untied(folder, canonical_tensors(folder, LLAMA, _PARTS, dims.n_layers), default=True)
    spec = folder_spec(folder, dims, tensors, rotation=usual_rope(folder, dims, theta=2e6))
    flags = folder.get_ints("no_rope_layers", None, high=1)  # 1 where a layer does rotate
    rotates = every(folder.get_int("no_rope_layer_interval", _PERIOD, low=1), dims.n_layers)
    if flags is not None:
        rotates = tuple(bool(flag) for flag in flags.tolist())
    if len(rotates) < dims.n_layers:
        raise MalformedFile(folder.path, f"'no_rope_layers' has {len(rotates)} entries for {dims.n_layers} layers")
    spec = _rotating(spec, rotates[: dims.n_layers])
    window = folder.get_int("sliding_window", 0) if folder.get_bool("use_sliding_window", False) else 0
    if window:
        spec = with_window(spec, window, sliding_layers(folder, dims.n_layers) or tuple(not on for on in rotates))
    return ModelDescription(replace(spec, activation=activation(folder)), tensors)


def _rotating(spec: DecoderSpec, rotates: tuple[bool, ...]) -> DecoderSpec:
    return replace(spec, ropes=tuple(rope if on else None for on, rope in zip(rotates, spec.ropes, strict=True)))


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``smollm3.*``."""
    return usual_form("smollm3", description, interleaved=True)


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``smollm3`` folder."""
    spec = description.spec
    flags = {"no_rope_layers": [int(rope is not None) for rope in spec.ropes], "no_rope_layer_interval": _PERIOD}
    biases = {"attention_bias": has(description, "query.bias"), "mlp_bias": has(description, "ffn_up.bias")}
    more = {**flags, **biases, "use_sliding_window": False, "layer_types": layer_types(spec)}
    return FolderForm(LLAMA, "model.", folder_config(description, "smollm3", "SmolLM3ForCausalLM", **more))
