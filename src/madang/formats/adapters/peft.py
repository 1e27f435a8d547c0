"""Adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors in a folder.

Each changed module has ``<module>.lora_A.weight`` [rank, n_in] and ``<module>.lora_B.weight`` [n_out, rank]; what is
added is ``lora_alpha / r`` times B A, or ``lora_alpha / sqrt(r)`` (rsLoRA, arXiv:2312.03732). Source: huggingface/peft,
developer guide on the checkpoint format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.adapters.description import AdapterDescription, FilePair, LowRank, fit
from madang.formats.adapters.reading import load_floats
from madang.formats.json_object import read_json_object
from madang.formats.safetensors import read_safetensors
from madang.formats.spec import ModelDescription

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
_MAX_CONFIG_BYTES: Final = 2**20
_PREFIX: Final = "base_model.model."
_FACTOR: Final = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")
_LAYER: Final = re.compile(r"(?:model|transformer)\.(?:layers|h)\.(?P<layer>\d{1,5})\.(?P<part>[\w.]+)")
# The modules of the families, as their classes in transformers call them.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "self_attn.q_proj": ("query",),
    "self_attn.k_proj": ("key",),
    "self_attn.v_proj": ("value",),
    "self_attn.o_proj": ("attention_output",),
    "self_attn.dense": ("attention_output",),
    "self_attn.qkv_proj": ("query", "key", "value"),
    "mlp.gate_proj": ("ffn_gate",),
    "mlp.up_proj": ("ffn_up",),
    "mlp.down_proj": ("ffn_down",),
    "mlp.gate_up_proj": ("ffn_gate", "ffn_up"),
    "mlp.fc1": ("ffn_up",),
    "mlp.fc2": ("ffn_down",),
    "mlp.c_fc": ("ffn_up",),
    "mlp.c_proj": ("ffn_down",),
    "attn.c_attn": ("query", "key", "value"),
    "attn.c_proj": ("attention_output",),
}
# Settings that change what is computed, and the values with which they change nothing.
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "use_dora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "modules_to_save": (None, [], ()),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "alora_invocation_tokens": (None, []),
}
# These begin from other base weights than the model's own.
_CHANGED_BASE: Final = ("pissa", "olora", "corda", "loftq")


def read(folder: Path, model: ModelDescription, name: str) -> AdapterDescription:
    """See read_adapter."""
    config = read_config(folder)
    refuse_what_is_not_computed(folder, config)
    return fit(name, folder / WEIGHTS_FILE, _pairs(folder / WEIGHTS_FILE, config), model)


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of an adapter. Raises MalformedFile."""
    config = read_json_object(folder / CONFIG_FILE, _MAX_CONFIG_BYTES)
    if not config:
        raise MalformedFile(folder, f"it has no {CONFIG_FILE} with settings in it")
    return config


def refuse_what_is_not_computed(folder: Path, config: Mapping[str, Any], *, known: Collection[str] = ()) -> None:
    """Raise UnsupportedModel for settings that would be overlooked; those that are ``known`` are not."""
    if config.get("peft_type") != "LORA":
        raise UnsupportedModel(f"the adapter {folder.name} of kind {str(config.get('peft_type'))[:40]}; only LoRA is")
    for setting, neutral in _NEUTRAL.items():
        if setting not in known and config.get(setting) not in neutral:
            raise UnsupportedModel(f"the adapter {folder.name}, whose setting '{setting}' is {config[setting]!r:.60}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise UnsupportedModel(
            f"the adapter {folder.name}, whose training changed the base model ('{start:.20}')",
            hint="Convert it to a plain LoRA adapter when saving it with PEFT.",
        )


def _pairs(path: Path, config: Mapping[str, Any]) -> Iterator[FilePair]:
    factors: dict[str, dict[str, Any]] = {}
    tensors = read_safetensors(path)
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name.removeprefix(_PREFIX))
        if match is None:
            raise UnsupportedModel(f"the tensor '{name}' of the adapter {path.parent.name}")
        factors.setdefault(match["module"], {})[match["factor"]] = tensor
    for module, both in factors.items():
        if both.keys() != {"A", "B"}:
            raise MalformedFile(path, f"'{module}' has only one factor")
        a, b = load_floats(both["A"]), load_floats(both["B"])
        scale = adapter_scale(path, config, module, len(a))
        yield FilePair(module, _canonical(path, module), LowRank(a, b * np.float32(scale)), rows_interleaved=False)


def _canonical(path: Path, module: str) -> tuple[str, ...]:
    if module == "lm_head":
        return ("output",)
    match = _LAYER.fullmatch(module)
    if match is None or match["part"] not in _PARTS:
        raise UnsupportedModel(f"the module '{module}', which the adapter {path.parent.name} changes")
    return tuple(f"{int(match['layer'])}.{part}" for part in _PARTS[match["part"]])


def adapter_scale(path: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    """What the product of a module's factors is multiplied with.

    ``lora_alpha`` over the rank or its root; the patterns name modules that have their own. ``path`` is for messages.
    Raises MalformedFile when ``rank`` is not the stated one, UnsupportedModel for a pattern that is no plain name.
    """
    stated = _of_module(config, "rank_pattern", module, config.get("r"))
    alpha = _of_module(config, "alpha_pattern", module, config.get("lora_alpha"))
    if stated != rank or isinstance(stated, bool):
        raise MalformedFile(path, f"'{module}' has rank {rank}, but {CONFIG_FILE} says {stated!r:.20}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise MalformedFile(path, f"the lora_alpha of '{module}' is {alpha!r:.20}, which is no number")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _of_module(config: Mapping[str, Any], setting: str, module: str, default: Any) -> Any:
    """The value of the first pattern that the module's name is or ends with. Only plain names are understood."""
    patterns = config.get(setting) or {}
    if not isinstance(patterns, dict):
        return default
    for pattern, value in patterns.items():
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", plain):
            raise UnsupportedModel(f"the pattern {pattern!r:.60} in the '{setting}' of an adapter")
        if module == plain or module.endswith("." + plain):
            return value
    return default
