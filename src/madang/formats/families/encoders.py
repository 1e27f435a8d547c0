"""What the encoders of texts share: everything sees everything, a norm after each sum, token types that are all 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from madang.formats.families.forms import GGUFForm, Settings, folder_config, gguf_form, renamed
from madang.formats.families.names import GGUF, Entry, Parts, canonical_tensors
from madang.formats.families.pooling import gguf_embedding
from madang.formats.families.reading import gguf_dims, gguf_spec
from madang.formats.families.reshaping import fused, part_of
from madang.formats.families.ropes import Layout
from madang.formats.families.sources import unsupported
from madang.formats.gguf import GGUFFile
from madang.formats.spec import DecoderSpec, EmbeddingSpec, ModelDescription

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
    names = GGUF.using({"attn_qkv": fused(dims.query_rows), **_NORMS}, top={"token_types": TYPE_EMBEDDING})
    tensors = canonical_tensors(file, names, parts, dims.n_layers)
    spec = gguf_spec(file, dims, tensors, layout=layout, norm="layer")
    return ModelDescription(as_encoder(spec), tensors, gguf_embedding(file, DEFAULT_EMBEDDING))


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
