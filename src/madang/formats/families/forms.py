"""How a family writes what it reads: names and settings of the other format for a described model.

Each family's page has a ``gguf_form`` and a ``folder_form``, beside what it reads; this module has what most of them
say alike. Rows of query and key are "half" in every folder, and "interleaved" in the GGUF files of some architectures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from madang.core.errors import CannotConvert
from madang.formats.families.names import GGUF, Entry, Names, Reshaped
from madang.formats.families.pooling import GGUF_POOLINGS, GGUF_RANKING
from madang.formats.families.reading import EPSILON_KEYS
from madang.formats.families.reshaping import each_expert
from madang.formats.families.ropes import folder_rope_keys, gguf_rope_keys
from madang.formats.gguf_writing import ValueToWrite
from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.tensors import TensorSource

Settings: TypeAlias = dict[str, Any]

_ACTIVATIONS: Final = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class GGUFForm:
    """A model as a GGUF file.

    metadata      keys without the architecture that stands before them
    interleaved   whether rows of query and key are permuted so that rotated pairs are neighbours
    vectors       float32 tensors that only this format has, by name
    """

    architecture: str
    names: Names
    metadata: Mapping[str, ValueToWrite]
    interleaved: bool
    vectors: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class FolderForm:
    """A model as a Hugging Face folder.

    prefix    what stands before the names of all tensors but ``lm_head``
    tensors   where they are not those of the description: parts that are files' own
    """

    names: Names
    prefix: str
    config: Settings
    tensors: Mapping[str, TensorSource] | None = field(default=None)

    @property
    def is_encoder(self) -> bool:
        """Whether it makes vectors, not text."""
        return not self.config["architectures"][0].endswith(("ForCausalLM", "LMHeadModel"))


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """A tensor of a file to be: the canonical names of what it is made of, and how; None is one of them as it is."""

    name: str
    parts: tuple[str, ...]
    reshaped: Reshaped | None


def place_tensors(
    names: Names, prefix: str, canonical: Collection[str], n_layers: int, n_numbers: int
) -> list[PlacedTensor]:
    """All tensors of a file to be, in order; ``n_numbers`` is how many experts or heads have tensors of their own.

    Of several names for one tensor, the last is taken: what a family adds to a table, before what it has from it.
    Raises CannotConvert for one that the format has no name for.
    """
    present = set(canonical)
    placed: list[PlacedTensor] = []
    for stem, entry, before in reversed(list(_spellings(names, n_layers, n_numbers))):
        for suffix in (".bias", ""):
            plain = (entry,) if isinstance(entry, str) else entry.parts
            parts = tuple(f"{before}{part}{suffix}" for part in plain)
            if not present.issuperset(parts):
                continue
            present.difference_update(parts)
            full = f"{'' if stem.startswith('lm_head') else prefix}{stem}{suffix or '.weight'}"
            placed.append(PlacedTensor(full, parts, None if isinstance(entry, str) else entry))
    if present:
        raise CannotConvert(f"the other format has no name for its tensor '{min(present)}'")
    return placed[::-1]


def _spellings(names: Names, n_layers: int, n_numbers: int) -> Iterator[tuple[str, Entry, str]]:
    """Stems of a file's names, what they hold, and what stands before that in canonical names."""
    for stem, entry in names.top.items():
        yield stem, entry, ""
    for layer in range(n_layers):
        for stem, entry in names.layer.items():
            full = f"{names.layers}.{layer}.{stem}"
            if "*" not in stem or not isinstance(entry, str):
                yield full, entry, f"{layer}."
                continue
            for number in map(str, range(n_numbers)):
                yield full.replace("*", number), entry.replace("*", number), f"{layer}."


def gguf_form(
    architecture: str,
    description: ModelDescription,
    fused: Mapping[str, Entry] = _NONE,
    *,
    interleaved: bool = False,
    metadata: Mapping[str, ValueToWrite] = _NONE,
) -> GGUFForm:
    """The usual form: what the spec says, under the usual keys.

    fused      entries that take precedence over the usual ones
    metadata   more keys, or other values
    """
    spec = description.spec
    names = GGUF.using({**_expert_names(spec), **fused})
    keys: dict[str, ValueToWrite] = {
        "vocab_size": spec.vocab_size,
        "context_length": spec.context_tokens,
        "embedding_length": spec.n_embd,
        "block_count": spec.n_layers,
        "feed_forward_length": spec.n_ff,
        "attention.head_count": spec.n_heads,
        "attention.head_count_kv": spec.n_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        EPSILON_KEYS[spec.norm]: spec.norm_epsilon,
    }
    vectors: Mapping[str, tuple[float, ...]] = {}
    if spec.rope_settings is not None:
        rope, vectors = gguf_rope_keys(spec.rope_settings)
        keys |= rope
    if any(spec.window_tokens):
        keys["attention.sliding_window"] = max(spec.window_tokens)
    if spec.experts is not None:
        keys |= {"expert_count": spec.experts.n_experts, "expert_used_count": spec.experts.n_used}
    if description.embedding is not None:
        keys["pooling_type"] = GGUF_POOLINGS[description.embedding.pooling]
    if description.ranks_pairs:
        keys["pooling_type"] = GGUF_RANKING
    return GGUFForm(architecture, names, {**keys, **metadata}, interleaved, vectors)


def _expert_names(spec: DecoderSpec) -> Mapping[str, Entry]:
    if spec.experts is None:
        return {}
    parts = ("ffn_gate", "ffn_up", "ffn_down")
    return {f"{part}_exps": each_expert(part, spec.experts.n_experts) for part in parts}


def folder_config(description: ModelDescription, model_type: str, class_name: str, **more: Any) -> Settings:
    """The usual config.json: what the spec says, by the names that Llama gave it, and ``more``."""
    spec = description.spec
    epsilon = {"rms": "rms_norm_eps", "layer": "layer_norm_eps"}[spec.norm]
    return {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.n_embd,
        "intermediate_size": spec.n_ff,
        "num_hidden_layers": spec.n_layers,
        "num_attention_heads": spec.n_heads,
        "num_key_value_heads": spec.n_kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": _ACTIVATIONS[spec.activation],
        "max_position_embeddings": spec.context_tokens,
        epsilon: spec.norm_epsilon,
        "tie_word_embeddings": "output" not in description.tensors,
        **({} if spec.rope_settings is None else folder_rope_keys(spec.rope_settings, spec.head_dim)),
        **more,
    }


def renamed(config: Settings, **names: str | None) -> Settings:
    """The same with other names for some keys; None drops one."""
    kept = {key: value for key, value in config.items() if key not in names}
    return kept | {new: config[key] for key, new in names.items() if new is not None and key in config}


def layer_types(spec: DecoderSpec) -> list[str]:
    """Which layers have a window, as config.json says it."""
    return ["sliding_attention" if window else "full_attention" for window in spec.window_tokens]


def has(description: ModelDescription, part: str) -> bool:
    """Whether the first layer has it."""
    return f"0.{part}" in description.tensors


def query_rows(spec: DecoderSpec) -> Mapping[str, int]:
    """Rows of the three projections, in the order in which fused ones have them."""
    n_keys = spec.n_kv_heads * spec.head_dim
    return {"query": spec.n_heads * spec.head_dim, "key": n_keys, "value": n_keys}
