"""Tiny random Llama checkpoints: weights by their Hugging Face names, written as GGUF the way the real converter does.

The weights that come back with a checkpoint are the dequantized ones, so a reference that is given them computes what
the file says, and differences are the engine's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from madang.formats.tensors import TensorType
from tests.parity.blocks import decode, encode

gguf = pytest.importorskip("gguf")

Weights: TypeAlias = dict[str, npt.NDArray[np.float32]]
Edit: TypeAlias = Callable[[Any], None]

BYTE_TOKENS = 3 + 256  # <unk>, <s>, </s>, then one token per byte
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True)
class TinyModel:
    """A shape. ``scaling`` is what ``rope_parameters`` has in a ``config.json``, beside the base ``rope_theta``."""

    name: str
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 32
    n_embd: int = 64
    n_ff: int = 96
    n_layers: int = 2
    vocab_size: int = BYTE_TOKENS
    context_tokens: int = 1024
    tied: bool = False
    rope_theta: float = 10_000.0
    scaling: Mapping[str, Any] = field(default_factory=dict)
    window: int | None = None
    norm_epsilon: float = 1e-5

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Checkpoint:
    """A GGUF file and what is in it: dequantized weights by Hugging Face name, queries and keys not permuted."""

    model: TinyModel
    path: Path
    weights: Weights


def write_checkpoint(
    model: TinyModel,
    path: Path,
    matrix_type: TensorType = TensorType.F32,
    *,
    weights: Weights | None = None,
    types: Mapping[str, TensorType] | None = None,
    edit: Edit | None = None,
) -> Checkpoint:
    """Write ``model`` with these weights, or random ones.

    types   the types of tensors by the end of their GGUF name, where they are not ``matrix_type`` (norms are F32)
    edit    is given the writer in place of :func:`add_byte_tokens`
    """
    rng = np.random.default_rng(len(model.name) + model.head_dim)
    writer = gguf.GGUFWriter(path, "llama")
    add_metadata(writer, model)
    (edit or partial(add_byte_tokens, vocab_size=model.vocab_size))(writer)
    written: Weights = {}
    for name, weight in (random_weights(model, rng) if weights is None else weights).items():
        target = gguf_name(name)
        tensor_type = TensorType.F32 if weight.ndim == 1 else matrix_type
        tensor_type = next((chosen for end, chosen in (types or {}).items() if target.endswith(end)), tensor_type)
        encoded = encode(permuted(name, weight, model), tensor_type, rng)
        writer.add_tensor(target, encoded, raw_dtype=gguf.GGMLQuantizationType(tensor_type))
        written[name] = unpermuted(name, decode(encoded, tensor_type).reshape(weight.shape), model)
    if model.scaling.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(model))
    finish(writer)
    return Checkpoint(model, path, written)


def write_folder(checkpoint: Checkpoint, folder: Path, **settings: Any) -> None:
    """The same model as a Hugging Face folder, with the same tokens. ``settings`` are more of config.json's."""
    from safetensors.numpy import save_file

    model = checkpoint.model
    folder.mkdir()
    save_file(checkpoint.weights, folder / "model.safetensors")
    config = {
        "model_type": "llama",
        "hidden_size": model.n_embd,
        "intermediate_size": model.n_ff,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.context_tokens,
        "rms_norm_eps": model.norm_epsilon,
        "tie_word_embeddings": model.tied,
        "rope_theta": model.rope_theta,
        "rope_scaling": dict(model.scaling) or None,
    }
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    (folder / "tokenizer.json").write_text(byte_tokenizer(model.vocab_size))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))


def byte_tokenizer(vocab_size: int) -> str:
    """A tokenizer.json with the tokens of :func:`add_byte_tokens`."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    by_byte = {_byte_of(letter): letter for letter in letters}
    texts = ["<unk>", "<s>", "</s>", *(by_byte[byte] for byte in range(256))]
    texts += [f"<unused{i}>" for i in range(vocab_size - BYTE_TOKENS)]
    model = tokenizers.models.BPE({text: number for number, text in enumerate(texts)}, [])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(texts[:3])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    text: str = tokenizer.to_str()
    return text


def _byte_of(letter: str) -> int:
    """GPT-2's alphabet: printable Latin-1 letters stand for themselves, the others for the rest, from 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in own]
    return ord(letter) if ord(letter) < 256 else rest[ord(letter) - 256]


def finish(writer: Any) -> None:
    """Write everything and close the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` -> ``blk.3.ffn_up.weight``."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.weight"


def huggingface_name(name: str) -> str:
    """The way back."""
    if name in TOP_NAMES.values():
        return next(theirs for theirs, ours in TOP_NAMES.items() if ours == name)
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{next(theirs for theirs, ours in LAYER_NAMES.items() if ours == part)}.weight"


# ---- weights


def random_weights(model: TinyModel, rng: np.random.Generator) -> Weights:
    """Weights that keep activations near 1 and make attention and logits far from uniform."""
    matrix = partial(_matrix, rng)
    norm = partial(rng.uniform, 0.5, 1.5)
    heads, kv_heads = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim
    weights: dict[str, npt.NDArray[Any]] = {
        "model.embed_tokens.weight": rng.normal(size=(model.vocab_size, model.n_embd)) / (8 if model.tied else 1)
    }
    for layer in range(model.n_layers):
        parts = {
            "input_layernorm": norm(model.n_embd),
            "self_attn.q_proj": 1.5 * matrix(heads, model.n_embd),
            "self_attn.k_proj": 1.5 * matrix(kv_heads, model.n_embd),
            "self_attn.v_proj": matrix(kv_heads, model.n_embd),
            "self_attn.o_proj": matrix(model.n_embd, heads),
            "post_attention_layernorm": norm(model.n_embd),
            "mlp.gate_proj": matrix(model.n_ff, model.n_embd),
            "mlp.up_proj": matrix(model.n_ff, model.n_embd),
            "mlp.down_proj": matrix(model.n_embd, model.n_ff),
        }
        weights |= {f"model.layers.{layer}.{part}.weight": weight for part, weight in parts.items()}
    weights["model.norm.weight"] = norm(model.n_embd)
    if not model.tied:
        weights["lm_head.weight"] = 2 * matrix(model.vocab_size, model.n_embd)
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float64]:
    return rng.normal(0, 1 / math.sqrt(columns), (rows, columns))


def permuted(name: str, weight: npt.NDArray[np.float32], model: TinyModel) -> npt.NDArray[np.float32]:
    """Rows of queries and keys so that rotated pairs (i, i + n/2) become neighbours."""
    n_heads = _rotated_heads(name, model)
    if not n_heads:
        return weight
    pairs = weight.reshape(n_heads, 2, model.head_dim // 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def unpermuted(name: str, weight: npt.NDArray[np.float32], model: TinyModel) -> npt.NDArray[np.float32]:
    """The way back."""
    n_heads = _rotated_heads(name, model)
    if not n_heads:
        return weight
    pairs = weight.reshape(n_heads, model.head_dim // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def _rotated_heads(name: str, model: TinyModel) -> int:
    return model.n_heads if "q_proj" in name else model.n_kv_heads if "k_proj" in name else 0


def llama3_factors(model: TinyModel) -> npt.NDArray[np.float32]:
    """Divisors of the base frequencies, as Meta's code for Llama 3.1 has them."""
    scaling = model.scaling
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = model.rope_theta ** -(np.arange(0, model.head_dim, 2) / model.head_dim) / (2 * math.pi)
    turns *= scaling["original_max_position_embeddings"]  # of each pair, within the original context
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / scaling["factor"] + smooth)).astype(np.float32)


# ---- metadata


def add_metadata(writer: Any, model: TinyModel) -> None:
    """The keys of the ``llama`` architecture."""
    writer.add_name(model.name)
    writer.add_block_count(model.n_layers)
    writer.add_context_length(model.context_tokens)
    writer.add_embedding_length(model.n_embd)
    writer.add_feed_forward_length(model.n_ff)
    writer.add_head_count(model.n_heads)
    writer.add_head_count_kv(model.n_kv_heads)
    writer.add_layer_norm_rms_eps(model.norm_epsilon)
    writer.add_vocab_size(model.vocab_size)
    writer.add_rope_freq_base(model.rope_theta)
    writer.add_rope_dimension_count(model.head_dim)
    if model.n_heads * model.head_dim != model.n_embd:
        writer.add_key_length(model.head_dim)
        writer.add_value_length(model.head_dim)
    if model.window is not None:
        writer.add_sliding_window(model.window)
    if model.scaling.get("rope_type") in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(model.scaling["rope_type"]))
        writer.add_rope_scaling_factor(model.scaling["factor"])
    if model.scaling.get("rope_type") == "yarn":
        writer.add_rope_scaling_orig_ctx_len(model.scaling["original_max_position_embeddings"])


def add_byte_tokens(writer: Any, vocab_size: int) -> None:
    """A SentencePiece vocabulary of bytes, filled up with unused tokens."""
    types = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [types.UNKNOWN, types.CONTROL, types.CONTROL, *[types.BYTE] * 256]
    n_unused = vocab_size - BYTE_TOKENS
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens + [f"<unused{i}>" for i in range(n_unused)])
    writer.add_token_scores([0.0] * vocab_size)
    writer.add_token_types(kinds + [types.UNUSED] * n_unused)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
