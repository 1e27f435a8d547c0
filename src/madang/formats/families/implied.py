"""The tensors that a model must have, from its settings alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from madang.core.errors import MalformedFile
from madang.formats.families.reading import folder_dims
from madang.formats.families.sources import Blueprint
from madang.formats.tensors import TensorInfo, TensorSource, TensorType

# Small, or read one row at a time: float32 in every GGUF file.
_ALWAYS_FLOAT32: Final = (".bias", "norm", "router", "position_embedding", "type_embedding")


def implied_tensors(blueprint: Blueprint, wanted: Iterable[tuple[str, bool]]) -> dict[str, TensorSource]:
    """Of ``wanted`` canonical names, those that must be there and those that the blueprint has, in their shapes.

    Raises MalformedFile when it has a part that is not wanted.
    """
    shapes = _shapes(blueprint)
    have = blueprint.parts | {"output"}
    names = [name for name, is_required in wanted if is_required or part_of_name(name) in have]
    unknown = blueprint.parts - set(map(part_of_name, names))
    if unknown:
        raise MalformedFile(blueprint.path, f"its family has no part '{min(unknown)}' that can be missing")
    return {name: TensorInfo(name, implied_type(name), shapes[part_of_name(name)], blueprint.path, 0) for name in names}


def implied_type(name: str) -> TensorType:
    """F16 for matrices, F32 for what stays small."""
    return TensorType.F32 if name.endswith(_ALWAYS_FLOAT32) else TensorType.F16


def _shapes(blueprint: Blueprint) -> Mapping[str, tuple[int, ...]]:
    dims = folder_dims(blueprint)
    n_ff = blueprint.get_int("moe_intermediate_size", dims.n_ff, low=1)
    n_query, n_keys = dims.query_rows["query"], dims.query_rows["key"]
    vocabulary = (blueprint.require_int("vocab_size", low=1), dims.n_embd)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding": vocabulary,
        "output": vocabulary,
        "position_embedding": (blueprint.require_int("max_position_embeddings", low=1), dims.n_embd),
        "type_embedding": (blueprint.get_int("type_vocab_size", 1, low=1), dims.n_embd),
        "rank_dense": (dims.n_embd, dims.n_embd),
        "rank_output": (1, dims.n_embd),
        "query": (n_query, dims.n_embd),
        "key": (n_keys, dims.n_embd),
        "value": (n_keys, dims.n_embd),
        "attention_output": (dims.n_embd, n_query),
        "query_norm": (dims.head_dim,),
        "key_norm": (dims.head_dim,),
        "router": (blueprint.get_int("num_local_experts", 1, low=1), dims.n_embd),
        "ffn_gate": (n_ff, dims.n_embd),
        "ffn_up": (n_ff, dims.n_embd),
        "ffn_down": (dims.n_embd, n_ff),
    }
    places = ("embedding", "output", "attention", "attention_post", "ffn", "ffn_post")
    shapes |= {f"{place}_norm": (dims.n_embd,) for place in places}
    return shapes | {f"{part}.bias": shape[:1] for part, shape in shapes.items()}


def part_of_name(name: str) -> str:
    """``3.expert.5.ffn_up`` -> ``ffn_up``, ``3.query.bias`` -> ``query.bias``."""
    return ".".join(step for step in name.split(".") if not step.isdecimal() and step != "expert")
