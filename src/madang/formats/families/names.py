"""Tensor names: which of a file's tensors is which canonical one, and which a family must and may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile
from madang.formats.families.implied import implied_tensors
from madang.formats.families.sources import Blueprint, Source, unsupported
from madang.formats.tensors import TensorInfo, TensorSource

Shape: TypeAlias = tuple[int, ...]
Matrix: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reshaped:
    """How one tensor of a file holds several canonical ones, or one in another form.

    parts   the canonical ones that it holds
    split   the file's tensor -> those
    join    their values, in the order of ``parts`` -> those of the file's tensor
    shape   the same for their shapes
    plain   whether ``join`` only puts one behind the other, so that it can be done piece by piece
    """

    parts: tuple[str, ...]
    split: Callable[[TensorInfo], Mapping[str, TensorSource]]
    join: Callable[[Sequence[Matrix]], Matrix]
    shape: Callable[[Sequence[Shape]], Shape]
    plain: bool = False


Entry: TypeAlias = str | Reshaped

_KINDS: Final = {"weight": "", "bias": ".bias", "gamma": "", "beta": ".bias"}  # the last two as TensorFlow says it


@dataclass(frozen=True, slots=True)
class Names:
    """A file's spelling, without ``.weight`` and ``.bias``. A ``*`` in ``layer`` is the number of an expert or a head.

    layers     what stands before a layer's number
    prefixes   what may stand before a name
    ignored    a pattern of names whose tensors change nothing
    """

    top: Mapping[str, Entry]
    layer: Mapping[str, Entry]
    layers: str
    prefixes: tuple[str, ...] = ()
    ignored: str = r"(?!)"

    def using(self, layer: Mapping[str, Entry], top: Mapping[str, Entry] | None = None) -> Names:
        """The same with more entries, or other ones, all of them behind those that stay."""
        kept = {name: entry for name, entry in self.layer.items() if name not in layer}
        return replace(self, layer={**kept, **layer}, top={**self.top, **(top or {})})

    def find(self, name: str) -> tuple[str, Entry, str, str] | None:
        """The layer's prefix, the entry, the number for its ``*`` and the suffix of a tensor; None if unknown."""
        bare = next((name.removeprefix(prefix) for prefix in self.prefixes if name.startswith(prefix)), name)
        stem, _, kind = bare.rpartition(".")
        if kind not in _KINDS:
            return None
        if stem in self.top:
            return "", self.top[stem], "", _KINDS[kind]
        if not stem.startswith(self.layers + "."):
            return None
        layer, _, part = stem.removeprefix(self.layers + ".").partition(".")
        number = next((step for step in part.split(".") if step.isdecimal()), "")
        pattern = ".".join("*" if step == number else step for step in part.split(".")) if number else part
        if not _is_index(layer) or pattern not in self.layer or (number and not _is_index(number)):
            return None
        return f"{layer}.", self.layer[pattern], number, _KINDS[kind]


def _is_index(text: str) -> bool:
    """Whether this is how a number is written: ASCII, no leading zero, short enough to be one."""
    return re.fullmatch(r"0|[1-9][0-9]{0,5}", text) is not None


GGUF: Final = Names(
    top={
        "token_embd": "token_embedding",
        "position_embd": "position_embedding",
        "token_types": "type_embedding",
        "token_embd_norm": "embedding_norm",
        "output_norm": "output_norm",
        "output": "output",
        "cls": "rank_dense",
        "cls.output": "rank_output",
    },
    layer={
        "attn_norm": "attention_norm",
        "attn_q": "query",
        "attn_k": "key",
        "attn_v": "value",
        "attn_q_norm": "query_norm",
        "attn_k_norm": "key_norm",
        "attn_output": "attention_output",
        "post_attention_norm": "attention_post_norm",
        "ffn_norm": "ffn_norm",
        "ffn_gate": "ffn_gate",
        "ffn_up": "ffn_up",
        "ffn_down": "ffn_down",
        "post_ffw_norm": "ffn_post_norm",
        "ffn_gate_inp": "router",
    },
    layers="blk",
    # Frequencies are read by ropes.py; in old files every layer has a copy.
    ignored=r"rope_(freqs|factors_(long|short))\.weight|blk\.\d+\.(attn_rot_embd|attn\.rotary_emb\.inv_freq)(\.weight)?",
)

# What Llama named its modules, and most families after it.
LLAMA: Final = Names(
    top={"embed_tokens": "token_embedding", "norm": "output_norm", "lm_head": "output"},
    layer={
        "input_layernorm": "attention_norm",
        "self_attn.q_proj": "query",
        "self_attn.k_proj": "key",
        "self_attn.v_proj": "value",
        "self_attn.o_proj": "attention_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    layers="layers",
    prefixes=("model.",),
    ignored=r".*\.rotary_emb\.inv_freq",
)

ATTENTION: Final = "query key value attention_output"
GATED: Final = "ffn_gate ffn_up ffn_down"
PLAIN: Final = "ffn_up ffn_down"
EXPERTS: Final = "router expert.*.ffn_gate expert.*.ffn_up expert.*.ffn_down"


def biased(parts: str, mark: str = "") -> str:
    """The biases of these parts; ``mark`` is "?" for ones that may be missing."""
    return " ".join(f"{part}.bias{mark}" for part in parts.split())


@dataclass(frozen=True, slots=True)
class Parts:
    """Canonical names that a family's models have; a ``?`` marks those that some have and some have not."""

    layer: str
    top: str = "token_embedding output_norm output?"

    def expanded(self, n_layers: int, n_experts: int) -> Iterator[tuple[str, bool]]:
        """Every full name, and whether it must be there."""
        for part in self.top.split():
            yield part.removesuffix("?"), not part.endswith("?")
        numbers = range(n_experts)
        for layer in range(n_layers):
            for part in self.layer.split():
                plain, is_required = part.removesuffix("?"), not part.endswith("?")
                for full in [plain.replace("*", str(number)) for number in numbers] if "*" in plain else [plain]:
                    yield f"{layer}.{full}", is_required


def canonical_tensors(
    source: Source, names: Names, parts: Parts, n_layers: int, n_experts: int = 0
) -> dict[str, TensorSource]:
    """The source's tensors by canonical name; a blueprint's are those that it must have.

    Raises UnsupportedModel for a tensor that the family does not know, MalformedFile for one that is missing or there
    twice.
    """
    wanted = dict(parts.expanded(n_layers, n_experts))
    if isinstance(source, Blueprint):
        return implied_tensors(source, wanted.items())
    found: dict[str, TensorSource] = {}
    for name in source.tensors:
        if re.fullmatch(names.ignored, name):
            continue
        place = names.find(name)
        made = {} if place is None else dict(_placed(source.tensors[name], *place))
        if not made or not made.keys() <= wanted.keys():
            raise unsupported(source, f"the tensor '{name}'")
        twice = next((found[canonical].name for canonical in made if canonical in found), None)
        if twice is not None:
            raise MalformedFile(source.path, f"the tensors '{twice}' and '{name}' are one")
        found |= made
    missing = next((name for name, is_required in wanted.items() if is_required and name not in found), None)
    if missing is not None:
        raise MalformedFile(source.path, f"the tensor '{missing}' is missing")
    return found


def _placed(
    tensor: TensorInfo, layer: str, entry: Entry, number: str, suffix: str
) -> Iterator[tuple[str, TensorSource]]:
    made: Mapping[str, TensorSource] = {entry: tensor} if isinstance(entry, str) else entry.split(tensor)
    for part, source in made.items():
        yield layer + part.replace("*", number) + suffix, source
