"""Which tensor gets which type under a name like Q4_K_M: llama.cpp's rules, so that names mean the same everywhere.

Facts from the reference (ggml-org/llama.cpp, src/llama-quant.cpp). A preset has a base type. Tensors whose errors cost
more get more bits, some of them in some layers only: attention values, the second matrix of the feed-forward, outputs.
Rows that 256 does not divide cannot have the types of super-blocks and get a simple type of at least as many bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from madang.core.errors import UnknownOption
from madang.formats.gguf import GGUFFile
from madang.formats.tensors import TensorInfo, TensorType

T = TensorType


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the rules ask of a model. Of numbers that differ between layers, those of the first one count."""

    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_experts: int

    @classmethod
    def of(cls, gguf: GGUFFile) -> ModelFacts:
        """Read from the metadata. Raises MalformedFile."""
        family = gguf.architecture
        n_heads = _first(gguf, f"{family}.attention.head_count") or 1
        n_kv_heads = _first(gguf, f"{family}.attention.head_count_kv")
        n_layers = gguf.require_int(f"{family}.block_count")
        n_experts = gguf.get_int(f"{family}.expert_count", 0)
        return cls(family, n_layers, n_heads, n_heads if n_kv_heads is None else n_kv_heads, n_experts)

    @property
    def shares_values(self) -> bool:
        """Whether four or more heads share one of values, so that bits spent on these are cheap."""
        return self.n_kv_heads > 0 and self.n_heads // self.n_kv_heads >= 4

    @property
    def is_70b(self) -> bool:
        """One of the models of 80 layers with shared values, for which the reference has a rule of its own."""
        shared = self.architecture in ("qwen2", "qwen2vl", "deci") or self.n_heads != self.n_kv_heads
        return self.n_layers == 80 and self.architecture in ("llama", "qwen2", "qwen2vl", "deci") and shared


def _first(gguf: GGUFFile, key: str) -> int | None:
    if isinstance(gguf.metadata.get(key), np.ndarray):
        values = gguf.get_ints(key, None)
        return None if values is None or not len(values) else int(values[0])
    return gguf.get_int(key, None)


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor among those of its kind: number ``index`` of ``count`` in the order of layers."""

    facts: ModelFacts
    has_importance: bool
    index: int
    count: int

    @property
    def is_falcon(self) -> bool:
        """The one architecture with rules of its own."""
        return self.facts.architecture == "falcon"

    @property
    def deserves_more(self) -> bool:
        """The first and last eighth of the layers, and every third between."""
        eighth = self.count // 8
        return self.index < eighth or self.index >= 7 * self.count // 8 or (self.index - eighth) % 3 == 2

    def among_first(self, share: int) -> bool:
        """Whether it is in the first 1 / ``share`` of the layers."""
        return self.index < self.count // share


Rule: TypeAlias = Callable[[Place], TensorType | None]


def _base(place: Place) -> None:
    return None


def _always(tensor_type: TensorType) -> Rule:
    return lambda place: tensor_type


def _more(tensor_type: TensorType) -> Rule:
    return lambda place: tensor_type if place.deserves_more else None


@dataclass(frozen=True, slots=True)
class Preset:
    """A base type and what gets another one; a rule that returns None leaves the base.

    file_type            the number that ``general.file_type`` has for it
    boosts_eight         of models with eight experts, attention outputs get Q5_K
    """

    base: TensorType
    file_type: int
    values: Rule = _base
    ffn_down: Rule = _base
    attention_output: Rule = _base
    boosts_eight: bool = False


def _shared_values(shared: TensorType, otherwise: TensorType | None) -> Rule:
    return lambda place: shared if place.facts.shares_values else otherwise


def _without_falcon(otherwise: TensorType, falcon: TensorType | None) -> Rule:
    return lambda place: falcon if place.is_falcon else otherwise


def _q3_k_m_down(place: Place) -> TensorType | None:
    if place.among_first(16):
        return T.Q5_K
    return T.Q4_K if not place.is_falcon or place.deserves_more else None


def _q4_k_m_down(place: Place) -> TensorType | None:
    if place.is_falcon:
        return T.Q6_K if place.among_first(16) else T.Q5_K if place.deserves_more else None
    return T.Q6_K if place.deserves_more else None


def _first_eighth(tensor_type: TensorType, *, with_importance: bool) -> Rule:
    def rule(place: Place) -> TensorType | None:
        return tensor_type if place.has_importance == with_importance and place.among_first(8) else None

    return rule


_IQ4_DOWN: Final = _first_eighth(T.Q5_K, with_importance=False)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "F32": Preset(T.F32, 0),
        "F16": Preset(T.F16, 1),
        "BF16": Preset(T.BF16, 32),
        "Q8_0": Preset(T.Q8_0, 7),
        "Q6_K": Preset(T.Q6_K, 18),
        "Q5_K_M": Preset(T.Q5_K, 17, _more(T.Q6_K), _more(T.Q6_K)),
        "Q5_K_S": Preset(T.Q5_K, 16),
        "Q5_1": Preset(T.Q5_1, 9),
        "Q5_0": Preset(T.Q5_0, 8, ffn_down=_first_eighth(T.Q5_1, with_importance=True)),
        "Q4_K_M": Preset(T.Q4_K, 15, _more(T.Q6_K), _q4_k_m_down, boosts_eight=True),
        "Q4_K_S": Preset(
            T.Q4_K,
            14,
            lambda place: T.Q5_K if place.index < 4 else None,
            lambda place: T.Q5_K if place.among_first(8) and not place.is_falcon else None,
            boosts_eight=True,
        ),
        "Q4_1": Preset(T.Q4_1, 3),
        "Q4_0": Preset(T.Q4_0, 2, ffn_down=_first_eighth(T.Q4_1, with_importance=True)),
        "IQ4_NL": Preset(T.IQ4_NL, 25, _shared_values(T.Q5_K, None), _IQ4_DOWN, boosts_eight=True),
        "IQ4_XS": Preset(T.IQ4_XS, 30, _shared_values(T.Q5_K, None), _IQ4_DOWN, boosts_eight=True),
        "Q3_K_L": Preset(T.Q3_K, 13, _always(T.Q5_K), _without_falcon(T.Q5_K, T.Q4_K), _without_falcon(T.Q5_K, T.Q4_K)),
        "Q3_K_M": Preset(
            T.Q3_K,
            12,
            lambda place: T.Q5_K if place.index < 2 else T.Q4_K,
            _q3_k_m_down,
            _without_falcon(T.Q4_K, None),
            boosts_eight=True,
        ),
        "Q3_K_S": Preset(T.Q3_K, 11, boosts_eight=True),
        "Q2_K": Preset(
            T.Q2_K,
            10,
            _shared_values(T.Q4_K, T.Q3_K),
            _always(T.Q3_K),
            _without_falcon(T.Q3_K, None),
            boosts_eight=True,
        ),
    }
)

_SUBSTITUTES: Final[Mapping[TensorType, TensorType]] = MappingProxyType(
    {
        T.Q2_K: T.Q4_0,
        T.Q3_K: T.Q4_0,
        T.Q4_K: T.Q5_0,
        T.Q5_K: T.Q5_1,
        T.Q6_K: T.Q8_0,
        T.IQ4_XS: T.IQ4_NL,
    }
)
# Small, or too sensitive, or read in another way than by products: these keep the type that they have.
_KEPT: Final = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d"
    r"|^position_embd\.weight$|^token_types\.weight$|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight"
    r"|time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\.weight|attn_rel_b\.weight|\.position_embd"
    r"|sam\.pos_embd|sam\.neck\.|sam\.net_|\.rel_pos|\.patch_embd|\.patch_merger|a\.rvq\.codebook|mm\.a\.code_embd"
)
_VALUES: Final = re.compile(r"attn_(qkv|kv_b|v)\.weight")
_LAYER: Final = re.compile(r"blk\.(\d+)\.")
_EMBEDDINGS: Final = ("token_embd.weight", "per_layer_token_embd.weight")
_OUTPUT: Final = "output.weight"
_EIGHT: Final = 8  # experts of the first model of experts, which the reference has rules for


def find_preset(name: str) -> Preset:
    """The preset of that name, in any case. Raises :class:`UnknownOption`."""
    preset = PRESETS.get(name.upper())
    if preset is None:
        raise UnknownOption("preset", name, list(PRESETS))
    return preset


def is_quantizable(tensor: TensorInfo) -> bool:
    """Whether presets give the tensor a type; all others keep the one that they have."""
    matrix = sum(size > 1 for size in tensor.shape[:-1]) > 0
    return matrix and tensor.name.endswith("weight") and _KEPT.search(tensor.name) is None


def substitute(tensor_type: TensorType, n_columns: int) -> TensorType:
    """The type itself, or the one that takes its place where its blocks do not divide the rows."""
    if n_columns % tensor_type.block_elements == 0:
        return tensor_type
    other = _SUBSTITUTES.get(tensor_type, T.F16)
    return other if n_columns % other.block_elements == 0 else T.F16


def preset_types(
    preset: Preset,
    tensors: Sequence[TensorInfo],
    facts: ModelFacts,
    *,
    has_importance: bool = False,
    pure: bool = False,
) -> dict[str, TensorType]:
    """The type of each tensor, in the order of ``tensors``.

    pure   the base type for all of them, where their rows allow it
    """
    chooser = _Chooser(preset, facts, has_importance, tensors)
    chosen: dict[str, TensorType] = {}
    for tensor in sorted(tensors, key=lambda tensor: (_layer_of(tensor.name), tensor.name)):
        if not is_quantizable(tensor):
            chosen[tensor.name] = tensor.type
        elif preset.base.block_elements == 1:
            chosen[tensor.name] = preset.base
        else:
            wanted = preset.base if pure else chooser.choose(tensor)
            chosen[tensor.name] = substitute(wanted, tensor.shape[-1])
    return {tensor.name: chosen[tensor.name] for tensor in tensors}


def _layer_of(name: str) -> int:
    match = _LAYER.match(name)
    return -1 if match is None else int(match[1])


class _Chooser:
    """Goes through the tensors in the order of layers, and counts those of each kind."""

    def __init__(self, preset: Preset, facts: ModelFacts, has_importance: bool, tensors: Sequence[TensorInfo]) -> None:
        self._preset = preset
        self._facts = facts
        self._has_importance = has_importance
        self._n_values = sum(_VALUES.search(tensor.name) is not None for tensor in tensors)
        self._tied = all(tensor.name != _OUTPUT for tensor in tensors)
        self._values_seen = 0
        self._downs_seen = 0

    def choose(self, tensor: TensorInfo) -> TensorType:
        """What the preset wants for it, whether its rows allow that or not."""
        name, base = tensor.name, self._preset.base
        if name == _OUTPUT or (self._tied and name in _EMBEDDINGS):
            return self._output_type(tensor)
        if name in _EMBEDDINGS:
            return base
        if _VALUES.search(name):
            return self._values_type()
        eight = self._facts.n_experts == _EIGHT
        if "attn_k.weight" in name:
            return T.Q8_0 if eight else base
        if "attn_output.weight" in name:
            return self._attention_output_type(eight)
        if "ffn_down" in name and "ffn_up" not in name and "ffn_gate" not in name:
            return self._down_type(name)
        return base

    def _output_type(self, tensor: TensorInfo) -> TensorType:
        base = self._preset.base
        misaligned = tensor.shape[-1] % base.block_elements != 0
        if self._facts.architecture == "falcon" or misaligned or base is T.Q8_0:
            return T.Q8_0
        return T.Q6_K

    def _values_type(self) -> TensorType:
        place = self._place(self._values_seen, self._n_values)
        self._values_seen += 1
        chosen = self._preset.values(place) or self._preset.base
        if self._facts.is_70b and chosen in (T.Q3_K, T.Q4_K):
            chosen = T.Q5_K
        return T.Q8_0 if self._facts.n_experts == _EIGHT else chosen

    def _attention_output_type(self, eight: bool) -> TensorType:
        place = self._place(0, 1)
        if eight and not place.is_falcon:
            return T.Q5_K if self._preset.boosts_eight else self._preset.base
        return self._preset.attention_output(place) or self._preset.base

    def _down_type(self, name: str) -> TensorType:
        """Experts share a layer, so there the name says which one it is."""
        index = _layer_of(name) if self._facts.n_experts > 1 else self._downs_seen
        self._downs_seen += 1
        return self._preset.ffn_down(self._place(index, self._facts.n_layers)) or self._preset.base

    def _place(self, index: int, count: int) -> Place:
        return Place(self._facts, self._has_importance, index, count)
