"""SentencePiece models: trained, read, written, and as GGUF metadata. Only the few protobuf fields that matter.

Fields (google/sentencepiece, sentencepiece_model.proto): ModelProto 1 pieces, 2 trainer, 3 normalizer; a piece is
1 text, 2 score, 3 type; trainer 3 kind, 35 byte fallback, 40-42 unknown, bos and eos ids; normalizer 2 rules, 3 space
prefix, 4 fewer spaces.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.formats.metadata import CheckedMetadata

sentencepiece = pytest.importorskip("sentencepiece")

USER_DEFINED = 4


def train(lines: list[str], **options: Any) -> bytes:
    """A small model of these lines."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=2000, minloglevel=2, num_threads=1, **options
    )
    return model.getvalue()


def as_gguf(model: bytes) -> CheckedMetadata:
    """What a converter would write into a GGUF file."""
    parts = list(_fields(model))
    pieces = [dict(_fields(value)) for number, value in parts if number == 1]
    trainer, normalizer = (dict(_fields(value)) for number, value in parts if number in (2, 3))
    kinds = [piece.get(3, 1) for piece in pieces]
    texts = [piece[1].decode() for piece in pieces]
    values: dict[str, Any] = {
        "model": "t5" if trainer.get(3, 1) == 1 else "llama",
        # Converters write the spaces of user-defined tokens plainly.
        "tokens": [t.replace("▁", " ") if k == USER_DEFINED else t for t, k in zip(texts, kinds, strict=True)],
        "scores": np.array([piece.get(2, 0.0) for piece in pieces], np.float32),
        "token_type": np.array(kinds, np.int32),
        "unknown_token_id": trainer.get(40, 0),
        "bos_token_id": trainer.get(41, 1),
        "eos_token_id": trainer.get(42, 2),
        "add_space_prefix": bool(normalizer.get(3, 1)),
        "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
    }
    if normalizer.get(2):
        values["precompiled_charsmap"] = np.frombuffer(normalizer[2], np.uint8)
    return CheckedMetadata(Path("model.gguf"), {f"tokenizer.ggml.{key}": value for key, value in values.items()})


def llama2c_model(file: Path) -> bytes:
    """A model with the tokens of a llama2.c ``tokenizer.bin``: after a length, (score f32, size i32, text) for each."""
    data = file.read_bytes()
    pieces: list[tuple[str, float, int]] = []
    position = 4
    while position < len(data):
        score, size = struct.unpack_from("<fi", data, position)
        text = data[position + 8 : position + 8 + size].decode()
        position += 8 + size
        number = len(pieces)
        kind = 2 if number == 0 else 3 if number < 3 else 6 if number < 259 else 1
        # The format writes the specials with line breaks and spaces around them, and spaces for U+2581.
        text = ("<unk>", "<s>", "</s>")[number] if number < 3 else text if kind == 6 else text.replace(" ", "▁")
        pieces.append((text, score, kind))
    encoded = b"".join(_bytes(1, _bytes(1, t.encode()) + _float(2, s) + _int(3, k)) for t, s, k in pieces)
    trainer = _int(3, 2) + _int(4, len(pieces)) + _int(35, 1)
    return encoded + _bytes(2, trainer) + _bytes(3, _bytes(1, b"identity") + _int(3, 1) + _int(4, 0) + _int(5, 1))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a protobuf message."""
    rest = iter(data)
    for first in rest:
        key = _varint([first], rest)
        if key & 7 == 0:
            yield key >> 3, _varint([], rest)
        elif key & 7 == 5:
            yield key >> 3, struct.unpack("<f", _take(rest, 4))[0]
        else:
            yield key >> 3, _take(rest, _varint([], rest))


def _take(rest: Iterator[int], count: int) -> bytes:
    return bytes(next(rest) for _ in range(count))


def _varint(read: list[int], rest: Iterable[int]) -> int:
    rest = iter(rest)
    while not read or read[-1] >= 128:
        read.append(next(rest))
    return sum((byte & 127) << 7 * place for place, byte in enumerate(read))


def _encode_varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _encode_varint(value >> 7)


def _int(number: int, value: int) -> bytes:
    return _encode_varint(number << 3) + _encode_varint(value)


def _float(number: int, value: float) -> bytes:
    return _encode_varint(number << 3 | 5) + struct.pack("<f", value)


def _bytes(number: int, value: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value
