"""What the encoders of texts share: everything sees everything, a norm after each sum, token types of 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Final

from madang.core.errors import MalformedFile
from madang.formats.families.forms import GGUFForm, Settings, folder_config, gguf_form, renamed
from madang.formats.families.names import GGUF, Entry, Parts, canonical_tensors
from madang.formats.families.pooling import gguf_embedding
from madang.formats.families.reading import gguf_dims, gguf_spec
from madang.formats.families.reshaping import fused, part_of
from madang.formats.families.ropes import Layout
from madang.formats.families.sources import Source, unsupported
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, EmbeddingSpec, ModelDescription
from madang.formats.tensors import TensorSource

DEFAULT_EMBEDDING: Final = EmbeddingSpec("mean")
# Of a file's two rows, the first belongs to token type 0.
TYPE_EMBEDDING: Final = part_of("type_embedding", 0, 1)
_NORMS: Final[Mapping[str, Entry]] = {
    "attn_output_norm": "attention_post_norm",
    "layer_output_norm": "ffn_post_norm",
}


def describe_gguf_encoder(file: GGUFFile, parts: Parts, layout: Layout | None) -> ModelDescription:
    """Read an encoder's file; ``layout`` of its rotation, None when it has none. Errors as the table's."""
    causal = f"{file.architecture}.attention.causal"
    if file.get_bool(causal, False):
        raise unsupported(file, f"the setting '{causal}'")
    dims = gguf_dims(file)
    # Files that were made for one program say so by their tensors alone.
    ranks = any(name.startswith("cls.") for name in file.tensors)
    types: Mapping[str, Entry] = {} if ranks else {"token_types": TYPE_EMBEDDING}
    names = GGUF.using({"attn_qkv": fused(dims.query_rows), **_NORMS}, top=types)
    tensors = canonical_tensors(file, names, with_head(parts) if ranks else parts, dims.n_layers)
    spec = as_encoder(gguf_spec(file, dims, tensors, layout=layout, norm="layer"))
    if ranks:
        return as_reranker(file, spec, tensors)
    return ModelDescription(spec, tensors, gguf_embedding(file, DEFAULT_EMBEDDING))


def with_head(parts: Parts) -> Parts:
    """The same with a head that gives one score to a pair of texts."""
    head = "rank_output rank_output.bias? rank_dense? rank_dense.bias?"
    return replace(parts, top=f"{parts.top} {head}")


def as_reranker(source: Source, spec: DecoderSpec, tensors: Mapping[str, TensorSource]) -> ModelDescription:
    """The description of a model with such a head. Raises UnsupportedModel for more scores than one."""
    n_labels = prod(tensors["rank_output"].shape) // spec.n_embd
    if n_labels != 1:
        raise unsupported(source, f"the classification into {n_labels} labels")
    n = spec.n_embd
    shapes = {"rank_output": (1, n), "rank_output.bias": (1, 1), "rank_dense": (n, n), "rank_dense.bias": (1, n)}
    for name in shapes.keys() & tensors.keys():
        if prod(tensors[name].shape) != prod(shapes[name]) or tensors[name].shape[-1] != shapes[name][-1]:
            raise MalformedFile(source.path, f"the tensor '{tensors[name].name}' does not fit {spec.n_embd} elements")
    return ModelDescription(spec, tensors)


def as_encoder(spec: DecoderSpec) -> DecoderSpec:
    """The same, seeing everything, with a norm after each sum."""
    return replace(spec, causal=False, norms_sum=True)


def gguf_encoder_form(architecture: str, description: ModelDescription, fusions: Mapping[str, Entry]) -> GGUFForm:
    """The usual form of an encoder; ``fusions`` are matrices in one."""
    return gguf_form(architecture, description, {**fusions, **_NORMS}, metadata={"attention.causal": False})


def encoder_config(description: ModelDescription, model_type: str, class_name: str) -> Settings:
    """The usual config.json of an encoder."""
    types = description.tensors.get("type_embedding")
    config = folder_config(description, model_type, class_name, type_vocab_size=1 if types is None else types.shape[0])
    return renamed(config, num_key_value_heads=None, tie_word_embeddings=None)
