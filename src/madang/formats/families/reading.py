"""What nearly all families read alike: dimensions, norms, activations, windows, and the spec that begins with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from madang.core.errors import MalformedFile
from madang.formats.families.ropes import Layout, Rotation, folder_rope, gguf_rope
from madang.formats.families.sources import Source, require_neutral, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.metadata import CheckedMetadata
from madang.formats.spec import Activation, DecoderSpec, Norm
from madang.formats.tensors import TensorSource

MAX_LAYERS: Final = 10_000
# Far above any real model. Heads x head_dim is computed from metadata alone, so it needs a limit of its own.
MAX_WIDTH: Final = 2**20

# Settings that change the result, with the values that do not. A family that computes one takes it off this list.
_NEUTRAL: Final[Mapping[str, tuple[float, ...]]] = {
    "logit_scale": (0, 1),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "attention.scale": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.sliding_window": (0,),
    "attention.temperature_scale": (0,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "expert_count": (0,),
    "expert_shared_count": (0,),
    "expert_weights_scale": (0, 1),
    "leading_dense_block_count": (0,),
    "nextn_predict_layers": (0,),
}
EPSILON_KEYS: Final[Mapping[Norm, str]] = {
    "rms": "attention.layer_norm_rms_epsilon",
    "layer": "attention.layer_norm_epsilon",
}
_ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True, slots=True)
class Dims:
    """Sizes as in :class:`DecoderSpec`."""

    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    context_tokens: int

    @property
    def query_rows(self) -> Mapping[str, int]:
        """Rows of the three projections, in the order in which fused ones have them."""
        n_keys = self.n_kv_heads * self.head_dim
        return {"query": self.n_heads * self.head_dim, "key": n_keys, "value": n_keys}


def gguf_dims(file: GGUFFile, n_ff: int | None = None) -> Dims:
    """Dimensions in the metadata of the file's architecture; ``n_ff`` where its key is another one."""
    arch = file.architecture
    n_embd = file.require_int(f"{arch}.embedding_length", low=1)
    n_heads = file.require_int(f"{arch}.attention.head_count", low=1)
    head_dim = file.get_int(f"{arch}.attention.key_length", n_embd // n_heads, low=1)
    dims = Dims(
        n_layers=file.require_int(f"{arch}.block_count", low=1, high=MAX_LAYERS),
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=file.get_int(f"{arch}.attention.head_count_kv", n_heads, low=1),
        head_dim=head_dim,
        n_ff=file.require_int(f"{arch}.feed_forward_length", low=1) if n_ff is None else n_ff,
        context_tokens=file.require_int(f"{arch}.context_length", low=1),
    )
    _check(file, dims, file.get_int(f"{arch}.attention.value_length", head_dim))
    return dims


def folder_dims(folder: ModelFolder, n_ff: int | None = None) -> Dims:
    """Dimensions in config.json, by the names that Llama gave them; families alias theirs to these."""
    n_embd = folder.require_int("hidden_size", low=1)
    n_heads = folder.require_int("num_attention_heads", low=1)
    head_dim = folder.get_int("head_dim", n_embd // n_heads, low=1)
    dims = Dims(
        n_layers=folder.require_int("num_hidden_layers", low=1, high=MAX_LAYERS),
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=folder.get_int("num_key_value_heads", n_heads, low=1),
        head_dim=head_dim,
        n_ff=folder.require_int("intermediate_size", low=1) if n_ff is None else n_ff,
        context_tokens=folder.require_int("max_position_embeddings", low=1),
    )
    _check(folder, dims, head_dim)
    return dims


def _check(source: CheckedMetadata, dims: Dims, value_dim: int) -> None:
    if dims.head_dim < 1 or dims.n_heads % dims.n_kv_heads or value_dim != dims.head_dim:
        raise MalformedFile(
            source.path, f"{dims.n_heads} heads cannot share {dims.n_kv_heads} key-value heads of {dims.head_dim}"
        )
    if dims.n_heads * dims.head_dim > MAX_WIDTH:
        raise MalformedFile(source.path, f"{dims.n_heads} heads of {dims.head_dim} are more than {MAX_WIDTH} elements")


def gguf_spec(
    file: GGUFFile,
    dims: Dims,
    tensors: Mapping[str, TensorSource],
    *,
    layout: Layout | None,
    norm: Norm = "rms",
    handled: tuple[str, ...] = (),
) -> DecoderSpec:
    """A spec with the usual values, to be refined with ``dataclasses.replace``.

    layout    how heads are rotated; None for no rotation
    handled   settings that the family computes itself; others that matter are refused
    """
    arch = file.architecture
    require_neutral(file, {f"{arch}.{key}": values for key, values in _NEUTRAL.items() if key not in handled})
    epsilon = file.require_float(f"{arch}.{EPSILON_KEYS[norm]}", low=0, high=1)
    rotation = None if layout is None else gguf_rope(file, dims.head_dim, layout)
    return _spec(file, dims, tensors, norm=norm, epsilon=epsilon, rotation=rotation)


def folder_spec(
    folder: ModelFolder,
    dims: Dims,
    tensors: Mapping[str, TensorSource],
    *,
    rotation: Rotation | None,
    norm: Norm = "rms",
    epsilon: str = "rms_norm_eps",
) -> DecoderSpec:
    """The same from a folder; ``epsilon`` is the key of the norms' epsilon."""
    value = folder.require_float(epsilon, low=0, high=1)
    return _spec(folder, dims, tensors, norm=norm, epsilon=value, rotation=rotation)


def _spec(
    source: Source,
    dims: Dims,
    tensors: Mapping[str, TensorSource],
    *,
    norm: Norm,
    epsilon: float,
    rotation: Rotation | None,
) -> DecoderSpec:
    positions = tensors.get("position_embedding")
    if positions is not None and positions.shape[0] < dims.context_tokens:
        raise MalformedFile(
            source.path, f"it knows {positions.shape[0]} positions, but says its context is {dims.context_tokens}"
        )
    return DecoderSpec(
        architecture=source.architecture,
        n_layers=dims.n_layers,
        n_embd=dims.n_embd,
        n_heads=dims.n_heads,
        n_kv_heads=dims.n_kv_heads,
        head_dim=dims.head_dim,
        n_ff=dims.n_ff,
        vocab_size=tensors["token_embedding"].shape[0],
        context_tokens=dims.context_tokens,
        norm_epsilon=epsilon,
        norm=norm,
        ropes=(None if rotation is None else rotation.rope,) * dims.n_layers,
        long_rope=None if rotation is None else rotation.long,
        rope_settings=None if rotation is None else rotation.settings,
        window_tokens=(0,) * dims.n_layers,
    )


def usual_rope(folder: ModelFolder, dims: Dims, theta: float = 10_000.0, partial: float = 1.0) -> Rotation:
    """The rotation that all layers of a folder share."""
    return folder_rope(folder, dims.head_dim, theta=theta, partial=partial)


def with_window(spec: DecoderSpec, n_tokens: int, is_sliding: tuple[bool, ...] | None = None) -> DecoderSpec:
    """The same with a window of ``n_tokens`` (0 is none) in all layers, or in those where ``is_sliding``."""
    chosen = (True,) * spec.n_layers if is_sliding is None else is_sliding
    return replace(spec, window_tokens=tuple(n_tokens if slides else 0 for slides in chosen))


def sliding_layers(folder: ModelFolder, n_layers: int) -> tuple[bool, ...] | None:
    """Which layers ``layer_types`` gives a window; None where it is not written."""
    types = folder.get_strs("layer_types", None)
    if types is None:
        return None
    for kind in types:
        if kind not in ("sliding_attention", "full_attention"):
            raise unsupported(folder, f"the layer type '{kind[:40]}'")
    if len(types) != n_layers:
        raise MalformedFile(folder.path, f"it has {len(types)} layer types for {n_layers} layers")
    return tuple(kind == "sliding_attention" for kind in types)


def gguf_sliding_layers(file: GGUFFile, n_layers: int, period: int) -> tuple[bool, ...]:
    """The same from ``attention.sliding_window_pattern``: one truth per layer, or a period (``period`` where missing)
    whose last layer sees everything.
    """
    key = f"{file.architecture}.attention.sliding_window_pattern"
    pattern = file.metadata.get(key)
    if isinstance(pattern, np.ndarray) and pattern.dtype == np.bool_:
        if len(pattern) != n_layers:
            raise MalformedFile(file.path, f"metadata '{key}' has {len(pattern)} entries for {n_layers} layers")
        return tuple(pattern.tolist())
    return every(file.get_int(key, period, low=1), n_layers)


def every(period: int, n_layers: int) -> tuple[bool, ...]:
    """True in all layers but each ``period``-th."""
    return tuple((layer + 1) % period != 0 for layer in range(n_layers))


def activation(folder: ModelFolder, key: str = "hidden_act", default: str = "silu") -> Activation:
    """The activation that ``key`` names."""
    name = folder.get_str(key, default)
    if name not in _ACTIVATIONS:
        raise unsupported(folder, f"the activation '{name[:40]}'")
    return _ACTIVATIONS[name]


def untied(folder: ModelFolder, tensors: dict[str, TensorSource], *, default: bool) -> dict[str, TensorSource]:
    """The tensors without an output matrix that ``tie_word_embeddings`` (``default`` where missing) makes a copy."""
    if folder.get_bool("tie_word_embeddings", default):
        return {name: tensor for name, tensor in tensors.items() if name != "output"}
    if "output" not in tensors:
        raise MalformedFile(folder.path, "the tensor 'output' is missing, and it is not tied to the embedding")
    return tensors
