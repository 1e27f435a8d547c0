"""One tiny random model of every family, as transformers saves it and as llama.cpp's converter writes it.

The GGUF side is made from the saved folder, tensor by tensor: names by the own table of the converter, which is in the
package ``gguf``, and what it does to the values of each family said again here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from tests.parity.checkpoints import TinyModel, add_byte_tokens, finish, llama3_factors

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors")

Values: TypeAlias = npt.NDArray[np.float32]
Config: TypeAlias = Mapping[str, Any]
Change: TypeAlias = Callable[[str, Values, Config], Values]
Metadata: TypeAlias = Callable[[Any, Config], None]

VOCABULARY = 259
WINDOW = 24
BASE: Config = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SWITCH = 64
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": SWITCH,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.5, 2.0, 3.0, 5.0, 8.0, 8.0],
}
MIXED_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


@dataclass(frozen=True)
class Family:
    """A model to be built.

    model      its class in transformers, and ``options`` for its config beside ``BASE``
    arch       its name in GGUF; None has no GGUF form here
    change     what the converter does to values
    metadata   the keys that it writes beside the usual ones
    shards     whether the folder is split into files
    """

    name: str
    model: str
    options: Config
    arch: str | None
    change: Change = lambda name, values, config: values
    metadata: Metadata = lambda writer, config: None
    shards: bool = False
    encoder: bool = False
    drop: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Built:
    """A family's model: the reference, its folder, its GGUF file."""

    family: Family
    reference: Any
    folder: Path
    gguf: Path | None


# ---- what the converter does to values


def permuted(name: str, values: Values, config: Config) -> Values:
    """Llama's rows of query and key, so that rotated pairs are neighbours."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    n_heads = next((count for part, count in heads.items() if f".{part}." in name), None)
    if n_heads is None:
        return values
    half = len(values) // n_heads // 2
    return values.reshape(n_heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def plus_one(name: str, values: Values, config: Config) -> Values:
    """Gemma's norms."""
    return values + np.float32(1) if name.endswith("norm.weight") else values


def transposed(name: str, values: Values, config: Config) -> Values:
    """GPT-2's matrices."""
    return values.T if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")) else values


def ungrouped(name: str, values: Values, config: Config) -> Values:
    """Falcon's queries, keys and values one below the other."""
    if "query_key_value" not in name:
        return values
    n_heads = config["num_attention_heads"]
    n_kv_heads = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
    groups = values.reshape(n_kv_heads, n_heads // n_kv_heads + 2, config["hidden_size"] // n_heads, -1)
    parts = (groups[:, :-2], groups[:, -2:-1], groups[:, -1:])
    return np.concatenate([part.reshape(-1, config["hidden_size"]) for part in parts])


def without_padding_positions(name: str, values: Values, config: Config) -> Values:
    """RoBERTa's positions from the first used one on."""
    return values[config["pad_token_id"] + 1 :] if name.endswith("position_embeddings.weight") else values


# ---- the keys that it writes


def usual_metadata(writer: Any, config: Config) -> None:
    """What the converter's base class writes."""

    def first(*keys: str) -> Any:
        return next((config[key] for key in keys if config.get(key) is not None), None)

    writer.add_block_count(first("num_hidden_layers", "n_layer", "num_layers"))
    writer.add_context_length(first("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(first("hidden_size", "n_embd"))
    writer.add_head_count(first("num_attention_heads", "n_head"))
    optional = {
        writer.add_feed_forward_length: first("intermediate_size", "n_inner"),
        writer.add_head_count_kv: first("num_key_value_heads"),
        writer.add_key_length: first("head_dim"),
        writer.add_value_length: first("head_dim"),
        writer.add_expert_count: first("num_local_experts"),
        writer.add_expert_used_count: first("num_experts_per_tok"),
    }
    epsilon = {"rms_norm_eps": writer.add_layer_norm_rms_eps}
    epsilon |= dict.fromkeys(("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"), writer.add_layer_norm_eps)
    optional |= {add: first(*(key for key, other in epsilon.items() if other == add)) for add in set(epsilon.values())}
    for add, value in optional.items():
        if value is not None:
            add(value)
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope:
        writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def with_rotated_part(writer: Any, config: Config) -> None:
    """Families that rotate a part of each head."""
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    writer.add_rope_dimension_count(int(config["rope_parameters"].get("partial_rotary_factor", 1) * head_dim))


def with_llama3_factors(writer: Any, config: Config) -> None:
    """Llama 3's scaling as a tensor."""
    rope = config["rope_parameters"]
    model = TinyModel("", head_dim=config["head_dim"], rope_theta=rope["rope_theta"], scaling=rope)
    writer.add_tensor("rope_freqs.weight", llama3_factors(model))


def with_window(writer: Any, config: Config) -> None:
    """One window, and which layers have it if not all."""
    writer.add_sliding_window(config["sliding_window"] or 0)


def with_pattern(writer: Any, config: Config) -> None:
    """EXAONE 4's window."""
    if config["sliding_window"]:
        writer.add_sliding_window(config["sliding_window"])
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])


def with_phi3_rope(writer: Any, config: Config) -> None:
    """Phi-3's window, and LongRoPE as tensors."""
    with_window(writer, config)
    with_rotated_part(writer, config)
    rope = config["rope_parameters"]
    original = config["original_max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(original)
    if rope["rope_type"] == "longrope":
        factor = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(factor) / np.log(original)))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))


def with_gemma_caps(writer: Any, config: Config) -> None:
    """Gemma 2's window and caps."""
    with_window(writer, config)
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def with_local_theta(writer: Any, config: Config) -> None:
    """Gemma 3's window and its rotation."""
    with_window(writer, config)
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])


def with_residual(writer: Any, config: Config) -> None:
    """StableLM."""
    with_rotated_part(writer, config)
    writer.add_parallel_residual(config["use_parallel_residual"])


def with_fixed_ff(writer: Any, config: Config) -> None:
    """GPT-2 and Falcon, whose width is not always written."""
    n_embd = config.get("hidden_size") or config["n_embd"]
    writer.add_feed_forward_length(4 * n_embd)
    if "num_kv_heads" in config:
        writer.add_head_count_kv(config["num_kv_heads"] if config["new_decoder_architecture"] else 1)


def with_encoder_keys(writer: Any, config: Config) -> None:
    """Encoders of texts."""
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    if config["model_type"] == "xlm-roberta":
        writer.add_context_length(config["max_position_embeddings"] - config["pad_token_id"] - 1)


def with_expert_width(writer: Any, config: Config) -> None:
    """Qwen3-MoE."""
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


NO_KV = {"num_key_value_heads": None}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512}
FALCON = {"alibi": False, "bias": False, "parallel_attn": True, "num_ln_in_parallel_attn": None}
FAMILIES: tuple[Family, ...] = (
    Family("llama", "Llama", {"head_dim": 32, "rope_parameters": LLAMA3}, "llama", permuted, with_llama3_factors, True),
    Family("llama-biased", "Llama", {"attention_bias": True, "mlp_bias": True}, "llama", permuted),
    Family("mistral", "Mistral", {"sliding_window": WINDOW}, "llama", permuted, with_window),
    Family("mixtral", "Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}, "llama", permuted),
    Family("qwen2", "Qwen2", {"tie_word_embeddings": True}, "qwen2"),
    Family(
        "qwen2-windowed", "Qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}, None
    ),
    Family("qwen3", "Qwen3", {"head_dim": 32}, "qwen3"),
    Family(
        "qwen3-moe",
        "Qwen3Moe",
        {
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 48,
            "norm_topk_prob": True,
        },
        "qwen3moe",
        metadata=with_expert_width,
    ),
    Family("qwen3-moe-unscaled", "Qwen3Moe", {"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2}, None),
    Family("gemma", "Gemma", {"head_dim": 32}, "gemma", plus_one),
    Family(
        "gemma2",
        "Gemma2",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": WINDOW},
        "gemma2",
        plus_one,
        with_gemma_caps,
    ),
    Family("gemma2-scaled", "Gemma2", {"head_dim": 32, "query_pre_attn_scalar": 20, "sliding_window": WINDOW}, None),
    Family(
        "gemma3",
        "Gemma3",
        {
            "num_hidden_layers": 7,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": WINDOW,
            "rope_parameters": MIXED_ROPES,
        },
        "gemma3",
        plus_one,
        with_local_theta,
        shards=True,
    ),
    Family("phi", "Phi", NO_KV | {"rope_parameters": None}, "phi2", metadata=with_rotated_part),
    Family("phi3", "Phi3", {"sliding_window": WINDOW}, "phi3", metadata=with_phi3_rope),
    Family(
        "phi3-long",
        "Phi3",
        {"original_max_position_embeddings": SWITCH, "rope_parameters": LONG_ROPE},
        "phi3",
        metadata=with_phi3_rope,
    ),
    Family("stablelm", "StableLm", {"rope_parameters": None}, "stablelm", metadata=with_residual),
    Family(
        "stablelm-12b",
        "StableLm",
        {"use_qkv_bias": True, "qk_layernorm": True, "use_parallel_residual": True, "rope_parameters": None},
        "stablelm",
        metadata=with_residual,
    ),
    Family(
        "falcon-7b",
        "Falcon",
        FALCON | {"multi_query": True, "new_decoder_architecture": False, "num_kv_heads": 4},
        "falcon",
        ungrouped,
        with_fixed_ff,
    ),
    Family(
        "falcon-40b",
        "Falcon",
        FALCON | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2},
        "falcon",
        ungrouped,
        with_fixed_ff,
    ),
    Family("gpt2", "GPT2", GPT2, "gpt2", transposed, with_fixed_ff),
    Family("exaone", "Llama", {"head_dim": 16, "rope_parameters": LLAMA3}, "exaone", metadata=with_llama3_factors),
    Family(
        "exaone4", "Exaone4", {"head_dim": 16, "sliding_window": None, "layer_types": ["full_attention"] * 3}, "exaone4"
    ),
    Family(
        "exaone4-hybrid",
        "Exaone4",
        {"num_hidden_layers": 5, "head_dim": 16, "sliding_window": WINDOW, "sliding_window_pattern": 4},
        "exaone4",
        metadata=with_pattern,
    ),
    Family("smollm3", "SmolLM3", {"num_hidden_layers": 5}, "smollm3", permuted),
    Family("starcoder2", "Starcoder2", {"sliding_window": WINDOW}, "starcoder2", metadata=with_window),
    Family("bert", "Bert", NO_KV, "bert", metadata=with_encoder_keys, encoder=True),
    Family(
        "xlm-roberta",
        "XLMRoberta",
        NO_KV | {"pad_token_id": 1},
        "bert",
        without_padding_positions,
        with_encoder_keys,
        encoder=True,
    ),
    Family("nomic-bert", "NomicBert", NO_KV, "nomic-bert", metadata=with_encoder_keys, encoder=True),
)


# ---- building


def build(family: Family, folder: Path) -> Built:
    """Make the model with random weights and save it in both forms below ``folder``."""
    torch.manual_seed(zlib.crc32(family.name.encode()))
    torch.set_num_threads(1)
    reference = _reference(family)
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            weight.copy_(_random(name, weight, family))
    saved = folder / family.name
    reference.save_pretrained(saved, max_shard_size="100KB" if family.shards else "1GB")
    if family.name == "exaone":
        _rename_to_exaone(saved)
    path = None
    if family.arch is not None:
        path = folder / f"{family.name}.gguf"
        _write_gguf(family, saved, path)
    return Built(family, reference.eval(), saved, path)


def _reference(family: Family) -> Any:
    options = {**BASE, **family.options}
    options = {key: value for key, value in options.items() if value is not None or key == "sliding_window"}
    if family.model == "GPT2":
        options = {key: options[key] for key in (*GPT2, "vocab_size", "bos_token_id")}
    config_name = {"Gemma3": "Gemma3TextConfig"}.get(family.model, f"{family.model}Config")
    class_name = f"{family.model}Model" if family.encoder else f"{family.model}ForCausalLM"
    class_name = "GPT2LMHeadModel" if family.model == "GPT2" else class_name
    config = getattr(transformers, config_name)(**options)
    config._attn_implementation = "eager"
    return getattr(transformers, class_name)(config)


def _random(name: str, weight: Any, family: Family) -> Any:
    """Values that keep activations near 1, and attention and logits far from uniform."""
    shape = weight.shape
    if name.endswith("bias"):
        return 0.2 * torch.randn(shape)
    if len(shape) == 1 or "layernorm" in name:
        return torch.rand(shape) - (0.5 if family.change is plus_one else -0.5)
    if "embed" in name or ".wte." in name or ".wpe." in name:
        return torch.randn(shape) / 4
    n_in = shape[0] if family.model == "GPT2" else shape[-1]
    gain = (
        2.0 if any(part in name for part in ("q_proj", "k_proj", "query", "lm_head", ".key.", "c_attn", "qkv")) else 1.0
    )
    return gain * torch.randn(shape) / n_in**0.5


EXAONE_NAMES = {
    "model.embed_tokens": "transformer.wte",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.attention.out_proj",
    "self_attn": "attn.attention",
    "mlp.gate_proj": "mlp.c_fc_0",
    "mlp.up_proj": "mlp.c_fc_1",
    "mlp.down_proj": "mlp.c_proj",
}


def _rename_to_exaone(folder: Path) -> None:
    """EXAONE 3 is a Llama with other names, and has no class in transformers."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    renamed: dict[str, Values] = {}
    for name, values in load_file(file).items():
        for theirs, ours in EXAONE_NAMES.items():
            name = name.replace(theirs, ours)
        renamed[name] = values
    save_file(renamed, file)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "exaone", "num_layers": config.pop("num_hidden_layers")}
    config |= {"layer_norm_epsilon": config.pop("rms_norm_eps"), "activation_function": config.pop("hidden_act")}
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (folder / "config.json").write_text(json.dumps(config))


def _write_gguf(family: Family, folder: Path, path: Path) -> None:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if family.name == "exaone":
        config |= {"rms_norm_eps": config.pop("layer_norm_epsilon")}
        config |= {"rope_parameters": {**config["rope_scaling"], "rope_theta": config["rope_theta"]}}
    writer = gguf.GGUFWriter(path, family.arch)
    usual_metadata(writer, config)
    family.metadata(writer, config)
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    table = gguf.get_tensor_name_map(arch, 64)
    for name, values in _gathered(folder):
        bare = name.removeprefix("bert.")
        if "pooler" in bare:
            continue
        target = table.get_name(bare, try_suffixes=(".weight", ".bias"))
        assert target is not None, f"the converter has no name for {bare}"
        changed = np.ascontiguousarray(family.change(bare, values, config), dtype=np.float32)
        writer.add_tensor(target, changed)
    add_byte_tokens(writer, VOCABULARY)
    finish(writer)


def _gathered(folder: Path) -> Iterator[tuple[str, Values]]:
    """Saved tensors; experts and StableLM's norms of heads as one, in the order of their numbers."""
    from safetensors.numpy import load_file

    stacks: dict[str, dict[int, Values]] = {}
    loaded = {name: values for file in sorted(folder.glob("*.safetensors")) for name, values in load_file(file).items()}
    for name, values in loaded.items():
        for separator in (".experts.", "_layernorm.norms."):
            before, found, after = name.partition(separator)
            if found:
                number, _, rest = after.partition(".")
                stacks.setdefault(_stack_name(before, separator, rest), {})[int(number)] = values
                break
        else:
            yield name, values
    for name, members in stacks.items():
        yield name, np.stack([members[number] for number in sorted(members)])


def _stack_name(before: str, separator: str, rest: str) -> str:
    if separator == "_layernorm.norms.":
        return f"{before}_layernorm.{rest}"
    if before.endswith("block_sparse_moe"):
        return f"{before.removesuffix('block_sparse_moe').removeprefix('model.')}feed_forward.experts.{rest}"
    return f"{before}.experts.{rest}"
