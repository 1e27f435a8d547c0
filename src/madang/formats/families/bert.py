"""BERT, RoBERTa and XLM-RoBERTa (arXiv:1810.04805, arXiv:1907.11692, arXiv:1911.02116) as encoders of texts: everything
sees everything, learned positions, a norm on the embeddings and after each sum.

RoBERTa's positions begin after the padding token's id; GGUF files have lost those unused rows. Token types are
all 0, but in a pair of texts. With one label, the head of a sequence classifier ranks pairs: BERT's lies behind its
pooler, RoBERTa's has two layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from madang.core.errors import CannotConvert
from madang.formats.families.encoders import (
    DEFAULT_EMBEDDING,
    TYPE_EMBEDDING,
    as_encoder,
    as_reranker,
    describe_gguf_encoder,
    encoder_config,
    gguf_encoder_form,
    with_head,
)
from madang.formats.families.forms import FolderForm, GGUFForm, renamed
from madang.formats.families.names import ATTENTION, PLAIN, Entry, Names, Parts, biased, canonical_tensors
from madang.formats.families.pooling import folder_embedding
from madang.formats.families.reading import activation, folder_dims, folder_spec
from madang.formats.families.reshaping import part_of
from madang.formats.families.sources import require_off, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_LAYER = f"{ATTENTION} attention_post_norm {PLAIN} ffn_post_norm"
_PARTS = Parts(
    f"{_LAYER} {biased(_LAYER)}",
    top="token_embedding position_embedding type_embedding? embedding_norm embedding_norm.bias",
)
_FOLDER = Names(
    top={
        "embeddings.word_embeddings": "token_embedding",
        "embeddings.LayerNorm": "embedding_norm",
        "embeddings.token_type_embeddings": TYPE_EMBEDDING,
    },
    layer={
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "attention_output",
        "attention.output.LayerNorm": "attention_post_norm",
        "intermediate.dense": "ffn_up",
        "output.dense": "ffn_down",
        "output.LayerNorm": "ffn_post_norm",
    },
    layers="encoder.layer",
    prefixes=("bert.", "roberta."),
    # The heads of pre-training, and the pooler that was trained with them.
    ignored=r"(bert\.|roberta\.)?(embeddings\.position_ids|pooler\.dense\.(weight|bias))|(cls|lm_head)\..*",
)
_BERT_HEAD: Final[Mapping[str, Entry]] = {"pooler.dense": "rank_dense", "classifier": "rank_output"}
_ROBERTA_HEAD: Final[Mapping[str, Entry]] = {"classifier.dense": "rank_dense", "classifier.out_proj": "rank_output"}
_RANKING_FOLDER: Final = replace(
    _FOLDER,
    top={**_FOLDER.top, "embeddings.token_type_embeddings": "type_embedding"},
    ignored=r"(bert\.|roberta\.)?embeddings\.position_ids|roberta\.pooler\.dense\.(weight|bias)|(cls|lm_head)\..*",
)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """Read ``bert.*``, which is also what the RoBERTas are called."""
    description = describe_gguf_encoder(file, _PARTS, layout=None)
    return replace(description, spec=replace(description.spec, gated=False, activation="gelu"))


def describe_folder(folder: ModelFolder) -> ModelDescription:
    """Read a ``bert``, ``roberta``, ``xlm-roberta`` or ``camembert`` folder."""
    require_off(folder, "is_decoder", "add_cross_attention")
    if folder.get_str("position_embedding_type", "absolute") != "absolute":
        raise unsupported(folder, "the setting 'position_embedding_type'")
    n_unused = 0 if folder.architecture == "bert" else folder.get_int("pad_token_id", 1) + 1
    dims = folder_dims(folder)
    dims = replace(dims, context_tokens=dims.context_tokens - n_unused)
    ranks = any(name.endswith("ForSequenceClassification") for name in folder.get_strs("architectures", []))
    head = {} if not ranks else _BERT_HEAD if folder.architecture == "bert" else _ROBERTA_HEAD
    positions = part_of("position_embedding", n_unused)
    names = (_RANKING_FOLDER if ranks else _FOLDER).using({}, top={"embeddings.position_embeddings": positions, **head})
    tensors = canonical_tensors(folder, names, with_head(_PARTS) if ranks else _PARTS, dims.n_layers)
    spec = folder_spec(folder, dims, tensors, rotation=None, norm="layer", epsilon="layer_norm_eps")
    spec = replace(as_encoder(spec), gated=False, activation=activation(folder, default="gelu"))
    if ranks:
        return as_reranker(folder, spec, tensors)
    return ModelDescription(spec, tensors, folder_embedding(folder, DEFAULT_EMBEDDING))


def gguf_form(folder: ModelFolder, description: ModelDescription) -> GGUFForm:
    """Write ``bert.*``."""
    return gguf_encoder_form("bert", description, {})


def folder_form(file: GGUFFile, description: ModelDescription) -> FolderForm:
    """Write a ``bert`` folder, which computes what RoBERTa does once the unused positions are gone."""
    names = _FOLDER.using({}, top={"embeddings.position_embeddings": "position_embedding"})
    config = renamed(encoder_config(description, "bert", "BertModel"), head_dim=None)
    if not description.ranks_pairs:
        return FolderForm(names, "", config)
    if "rank_dense" not in description.tensors:  # the file has lost it, and transformers would make one up
        raise CannotConvert("a folder has a pooler before its one label, which the file has not")
    head = {"bert.pooler.dense": "rank_dense", "classifier": "rank_output"}
    top = {name if name.startswith("classifier") else f"bert.{name}": entry for name, entry in names.top.items()}
    top |= {"bert.embeddings.token_type_embeddings": "type_embedding", **head}
    whole = replace(names, top=top, layers=f"bert.{names.layers}")
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    return FolderForm(whole, "", config)
