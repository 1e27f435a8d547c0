"""Llama and everything built like it: SmolLM, TinyLlama, Mistral, Vicuna, CodeLlama, DeepSeek-Coder, Midm 2, Kanana.

RMSNorm before attention and feed-forward, rotary positions, grouped queries, SwiGLU, no biases (arXiv:2302.13971,
arXiv:2307.09288). GGUF files hold query and key rows permuted so that rotated pairs are neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from madang.core.errors import MalformedFile, UnsupportedModel
from madang.formats.gguf import GGUFFile
from madang.formats.rope import Frequencies, Yarn, base_frequencies, scale_linear
from madang.formats.spec import DecoderSpec, ModelDescription, RopeSpec
from madang.formats.tensors import TensorInfo, TensorType

_TOP_NAMES = {"token_embd.weight": "token_embedding", "output_norm.weight": "output_norm", "output.weight": "output"}
_LAYER_NAMES = {
    "attn_norm.weight": "attention_norm",
    "attn_q.weight": "query",
    "attn_k.weight": "key",
    "attn_v.weight": "value",
    "attn_output.weight": "attention_output",
    "ffn_norm.weight": "ffn_norm",
    "ffn_gate.weight": "ffn_gate",
    "ffn_up.weight": "ffn_up",
    "ffn_down.weight": "ffn_down",
}
_ROPE_FACTORS = "rope_freqs.weight"  # Llama 3's scaling, as divisors of the base frequencies
_OTHER_ENGINE = "llama.cpp"
# Far above any real model. Heads x head_dim is computed from metadata alone, so it needs a limit of its own.
_MAX_WIDTH = 2**20


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read the ``llama.*`` metadata and name the tensors."""
    _refuse_what_is_not_computed(file)
    n_embd = file.require_int("llama.embedding_length", low=1)
    n_heads = file.require_int("llama.attention.head_count", low=1)
    n_kv_heads = file.get_int("llama.attention.head_count_kv", n_heads, low=1)
    n_layers = file.require_int("llama.block_count", low=1, high=10_000)
    head_dim = file.get_int("llama.attention.key_length", n_embd // n_heads, low=1)
    if n_heads % n_kv_heads or file.get_int("llama.attention.value_length", head_dim) != head_dim:
        raise MalformedFile(file.path, f"{n_heads} heads cannot share {n_kv_heads} key-value heads of {head_dim}")
    if n_heads * head_dim > _MAX_WIDTH:
        raise MalformedFile(file.path, f"{n_heads} heads of {head_dim} are more than {_MAX_WIDTH} elements")
    tensors = _canonical_tensors(file, n_layers)
    if "token_embedding" not in tensors:
        raise MalformedFile(file.path, "the tensor 'token_embd.weight' is missing")
    spec = DecoderSpec(
        architecture="llama",
        n_layers=n_layers,
        n_embd=n_embd,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        n_ff=file.require_int("llama.feed_forward_length", low=1),
        vocab_size=tensors["token_embedding"].shape[0],
        context_tokens=file.require_int("llama.context_length", low=1),
        norm_epsilon=file.require_float("llama.attention.layer_norm_rms_epsilon", low=0, high=1),
        ropes=(_rope(file, head_dim),) * n_layers,
        window_tokens=(file.get_int("llama.attention.sliding_window", 0),) * n_layers,
    )
    return ModelDescription(spec, tensors)


def _refuse_what_is_not_computed(file: GGUFFile) -> None:
    neutral = {"logit_scale": (0, 1), "embedding_scale": (0, 1), "residual_scale": (0, 1), "attention.scale": (0,)}
    for name, values in neutral.items():
        if file.get_float(f"llama.{name}", 0.0) not in values:
            raise UnsupportedModel(f"the setting 'llama.{name}' of {file.path.name}", runs_with=_OTHER_ENGINE)
    n_experts = file.get_int("llama.expert_count", 0)
    if n_experts:
        raise UnsupportedModel(f"the mixture of {n_experts} experts in {file.path.name}", runs_with=_OTHER_ENGINE)


def _rope(file: GGUFFile, head_dim: int) -> RopeSpec:
    base = file.get_float("llama.rope.freq_base", 10_000.0, low=2)
    n_dims = file.get_int("llama.rope.dimension_count", head_dim, low=2, high=head_dim)
    if n_dims % 2:
        raise MalformedFile(file.path, f"{n_dims} elements of a head cannot be rotated in pairs")
    frequencies = base_frequencies(base, n_dims)
    magnitude = 1.0
    if _ROPE_FACTORS in file.tensors:
        frequencies = frequencies / _read_factors(file, n_dims // 2)
    kind = file.get_str("llama.rope.scaling.type", "none")
    factor = file.get_float("llama.rope.scaling.factor", file.get_float("llama.rope.scale_linear", 1.0), low=1)
    match kind:
        case "none" if factor == 1:
            pass
        case "none" | "linear":
            frequencies = scale_linear(frequencies, factor)
        case "yarn":
            original = file.require_int("llama.rope.scaling.original_context_length", low=1)
            yarn = Yarn(
                factor,
                base,
                original,
                beta_fast=file.get_float("llama.rope.scaling.yarn_beta_fast", 32.0, low=0.001),
                beta_slow=file.get_float("llama.rope.scaling.yarn_beta_slow", 1.0, low=0.001),
            )
            frequencies = yarn.scale(frequencies)
            magnitude = yarn.magnitude * file.get_float("llama.rope.scaling.attn_factor", 1.0, low=0.001)
        case _:
            raise UnsupportedModel(f"the rope scaling '{kind}' of {file.path.name}", runs_with=_OTHER_ENGINE)
    return RopeSpec("interleaved", tuple(frequencies.tolist()), magnitude)


def _read_factors(file: GGUFFile, n_pairs: int) -> Frequencies:
    tensor = file.tensors[_ROPE_FACTORS]
    if tensor.type != TensorType.F32 or tensor.shape != (n_pairs,):
        raise MalformedFile(file.path, f"'{_ROPE_FACTORS}' is not {n_pairs} float32 values")
    factors = np.fromfile(tensor.path, "<f4", n_pairs, offset=tensor.offset_bytes).astype(np.float64)
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise MalformedFile(file.path, f"'{_ROPE_FACTORS}' has values that are not positive")
    return factors


def _canonical_tensors(file: GGUFFile, n_layers: int) -> Mapping[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for name, tensor in file.tensors.items():
        if name != _ROPE_FACTORS:
            tensors[_canonical_name(file, name, n_layers)] = tensor
    return tensors


def _canonical_name(file: GGUFFile, name: str, n_layers: int) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    prefix, _, rest = name.partition(".")
    layer, _, part = rest.partition(".")
    if prefix == "blk" and layer.isdecimal() and int(layer) < n_layers and part in _LAYER_NAMES:
        return f"{int(layer)}.{_LAYER_NAMES[part]}"
    raise UnsupportedModel(f"the tensor '{name}' of {file.path.name}", runs_with=_OTHER_ENGINE)
