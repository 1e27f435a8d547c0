"""Tiny random cross-encoders, as transformers saves them, with tokenizers that know the words of the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parity.references import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = (
    "how",
    "many",
    "borrow",
    "check",
    "er",
    "memory",
    "moves",
    "values",
    "the",
    "a",
    "of",
    "in",
    "is",
    "owner",
    "rust",
    "ship",
    "서울",
    "은",
    "수도",
    "소유",
    "권",
)
KINDS = ("bert", "xlm-roberta")
N_POSITIONS = 128
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_labels": 1,
}


@dataclass(frozen=True)
class Built:
    """A model of one kind: the reference, what splits its texts, and the folder with both."""

    kind: str
    reference: Any
    tokenizer: Any
    folder: Path

    def logits(self, query: str, documents: Sequence[str]) -> list[float]:
        """What transformers says of each pair, one at a time."""
        scores = []
        for document in documents:
            encoded = self.tokenizer(query, document, return_tensors="pt")
            with torch.inference_mode():
                scores.append(self.reference(**encoded).logits.item())
        return scores


def build(kind: str, folder: Path, **more: Any) -> Built:
    """Save one below ``folder``; ``more`` for its config."""
    torch.manual_seed(len(kind))
    torch.set_num_threads(1)
    tokenizer = _word_pieces() if kind == "bert" else _unigram()
    n_words = tokenizer.get_vocab_size()
    if kind == "bert":
        config = transformers.BertConfig(
            **{"vocab_size": n_words, "max_position_embeddings": N_POSITIONS, **_SIZES, **more}
        )
        reference = transformers.BertForSequenceClassification(config)
    else:
        sizes = {
            "vocab_size": n_words,
            "max_position_embeddings": N_POSITIONS + 2,
            "type_vocab_size": 1,
            "pad_token_id": 1,
        }
        config = transformers.XLMRobertaConfig(**{**sizes, "layer_norm_eps": 1e-5, **_SIZES, **more})
        reference = transformers.XLMRobertaForSequenceClassification(config)
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            is_norm = "LayerNorm.weight" in name
            weight.copy_(torch.randn_like(weight) * 0.1 + (1.0 if is_norm else 0.0))
    path = folder / kind
    reference.eval().save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    names = (
        {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
        if kind == "bert"
        else {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>"}
    )
    (path / "tokenizer_config.json").write_text(json.dumps(names))
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if kind == "bert" else [])]
    loaded = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path / "tokenizer.json"), model_input_names=inputs, **names
    )
    return Built(kind, reference, loaded, path)


def _word_pieces() -> Any:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*specials, *WORDS, *(f"##{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz"[1:]]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _unigram() -> Any:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted({*"".join(WORDS), *"abcdefghijklmnopqrstuvwxyz", "▁"})
    pieces = dict.fromkeys([*(f"▁{word}" for word in WORDS), *WORDS, *letters])
    scored = [(piece, 0.0) for piece in specials] + [(piece, -1.0 - i / 50) for i, piece in enumerate(pieces)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(scored, unk_id=3))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
