"""Small tokenizers of every kind, as the metadata of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from madang.formats.metadata import CheckedMetadata
from madang.formats.tokenizers.tokenizer import Tokenizer, tokenizer_from_gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BYTE_LETTERS = sorted(ByteLevel.alphabet())


def metadata(model: str, tokens: list[tuple[str, int]], /, **keys: Any) -> CheckedMetadata:
    """Metadata with the given (text, type) tokens; ``keys`` lack the ``tokenizer.ggml.``, None leaves one out."""
    values: dict[str, Any] = {
        "model": model,
        "tokens": [text for text, _ in tokens],
        "token_type": np.array([kind for _, kind in tokens], np.int32),
        **keys,
    }
    template = values.pop("chat_template", None)
    named = {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}
    return CheckedMetadata(Path("model.gguf"), named | ({"tokenizer.chat_template": template} if template else {}))


def byte_pairs(**keys: Any) -> CheckedMetadata:
    """All bytes, "he" "ll" "hell" " h", <|im_start|> = 0, <|im_end|> = 1, the user-defined <tool> = 2, then letters."""
    special = [("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ("<tool>", USER_DEFINED)]
    pieces = [(text, NORMAL) for text in [*BYTE_LETTERS, "he", "ll", "hell", "Ġh"]]
    defaults = {"pre": "gpt-2", "merges": ["h e", "l l", "he ll", "Ġ h"], "bos_token_id": 0, "eos_token_id": 1}
    return metadata("gpt2", special + pieces, **{**defaults, **keys})


SENTENCE_PIECES = ["▁", "a", "b", "c", "ab", "bc", "▁a", "abc", "가"]


def sentencepiece(model: str = "llama", **keys: Any) -> CheckedMetadata:
    """<unk> <s> </s>, 256 bytes, and a few pieces that score lower the later they come."""
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    tokens += [(piece, NORMAL) for piece in SENTENCE_PIECES]
    scores = np.array([0.0] * 259 + [-1.0 - n for n in range(len(SENTENCE_PIECES))], np.float32)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return metadata(model, tokens, **{"scores": scores, **ids, **keys})


def word_pieces(**keys: Any) -> CheckedMetadata:
    """BERT's five control tokens and a few pieces, in GGUF's spelling."""
    control = [(text, CONTROL) for text in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    pieces = [(text, NORMAL) for text in ("▁play", "ing", "ed", "▁,", "▁run")]
    return metadata(
        "bert", control + pieces, **{"bos_token_id": 2, "seperator_token_id": 3, "unknown_token_id": 1, **keys}
    )


def tokenizer(kind: str = "gpt2", **keys: Any) -> Tokenizer:
    """The small tokenizer of a kind: gpt2, llama, t5 or bert."""
    if kind == "gpt2":
        return tokenizer_from_gguf(byte_pairs(**keys))
    return tokenizer_from_gguf(word_pieces(**keys) if kind == "bert" else sentencepiece(kind, **keys))
