"""Each mistake that a well-formed file can have is found, and a good file has none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import MalformedFile
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.gguf_writing import TensorToWrite, copied_tensor, write_gguf
from madang.formats.tensors import TensorType
from madang.quantization.audit import Audit, audit_file
from tests.formats import vocabularies
from tests.parity.checkpoints import TinyModel, write_checkpoint

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    """A small Llama whose tokenizer has all bytes and a chat template."""
    words = vocabularies.byte_pairs(chat_template=CHATML)
    n_words = len(words.require_strs("tokenizer.ggml.tokens"))
    path = tmp_path_factory.mktemp("good") / "good.gguf"
    file = read_gguf(write_checkpoint(TinyModel("audited", vocab_size=n_words), path).path)
    plain = {key: value for key, value in file.typed_metadata.items() if not key.startswith("tokenizer.")}
    metadata = plain | dict(words.metadata) | {"general.file_type": 0}
    whole = path.with_name("whole.gguf")
    write_gguf(whole, metadata, [copied_tensor(tensor) for tensor in file.tensors.values()])
    return read_gguf(whole)


def changed(
    file: GGUFFile,
    path: Path,
    metadata: Mapping[str, Any] = {},
    tensors: Mapping[str, TensorToWrite | None] = {},
) -> Audit:
    """The audit of the file with these keys and tensors; None leaves one out."""
    keys = {key: value for key, value in {**file.typed_metadata, **metadata}.items() if value is not None}
    all_tensors = {name: copied_tensor(tensor) for name, tensor in file.tensors.items()} | dict(tensors)
    write_gguf(path, keys, [tensor for tensor in all_tensors.values() if tensor is not None])
    return audit_file(path)


def levels(audit: Audit, words: str) -> list[str]:
    """How bad the findings with these words are."""
    return [finding.level for finding in audit.findings if words in finding.what]


def test_a_good_file(good: GGUFFile) -> None:
    audit = audit_file(good.path)
    assert audit.findings == []
    assert audit.fallbacks == [] and audit.others == 0
    assert audit.sha256 == hashlib.sha256(good.path.read_bytes()).hexdigest()
    assert audit.size_bytes == good.path.stat().st_size
    assert audit.bits_per_weight == 32
    assert audit.preset == "F32"
    assert math.isclose(sum(row.share for row in audit.tensors), 1)
    assert sum(row.tensors for row in audit.types) == len(good.tensors)
    assert audit.tokenizer["eos"] == "<|im_end|>"
    assert audit.parameters == sum(tensor.n_elements for tensor in good.tensors.values())


def test_fallbacks_are_told(good: GGUFFile, tmp_path: Path) -> None:
    """Rows of 64 cannot have Q4_K; what is no fallback is a mix of its own."""
    smaller: dict[str, TensorToWrite | None] = {}
    for name, tensor in good.tensors.items():
        if name.startswith("blk.0.") and name.endswith(("attn_q.weight", "attn_k.weight")):
            smaller[name] = q5_0(name, tensor.shape)
    audit = changed(good, tmp_path / "a.gguf", {"general.file_type": 15}, smaller)
    assert audit.preset == "Q4_K_M"
    found = {one.name: (one.wanted, one.found, one.n_columns) for one in audit.fallbacks}
    assert found["blk.0.attn_q.weight"] == ("Q4_K", "Q5_0", 64)
    assert audit.bits_per_weight < 32


def q5_0(name: str, shape: tuple[int, ...]) -> TensorToWrite:
    size_bytes = TensorToWrite(name, TensorType.Q5_0, shape, bytes).size_bytes
    blocks = np.zeros((size_bytes // 22, 22), np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(0.5).tobytes(), np.uint8)
    return TensorToWrite(name, TensorType.Q5_0, shape, lambda: blocks)


def test_a_mix_of_its_own(good: GGUFFile, tmp_path: Path) -> None:
    name = "blk.0.attn_q.weight"
    audit = changed(good, tmp_path / "a.gguf", {"general.file_type": 1}, {name: q5_0(name, good.tensors[name].shape)})
    assert audit.others > 0
    assert audit.fallbacks == []


def vector(name: str, values: Any) -> TensorToWrite:
    array = np.asarray(values, np.float32)
    return TensorToWrite(name, TensorType.F32, array.shape, lambda: array)


def test_values_that_are_no_weights(good: GGUFFile, tmp_path: Path) -> None:
    name = "blk.0.ffn_norm.weight"
    values = np.ones(good.tensors[name].shape)
    values[3] = np.nan
    assert levels(changed(good, tmp_path / "a.gguf", {}, {name: vector(name, values)}), name) == ["error"]
    zeros = vector(name, np.zeros(good.tensors[name].shape))
    assert levels(changed(good, tmp_path / "b.gguf", {}, {name: zeros}), "all zeros") == ["warning"]


def test_tensors_that_are_there_twice(good: GGUFFile, tmp_path: Path) -> None:
    embedding = good.tensors["token_embd.weight"]
    again = {"output.weight": copied_tensor(embedding, "output.weight")}
    assert levels(changed(good, tmp_path / "a.gguf", {}, again), "byte for byte") == ["warning"]


def test_a_tensor_that_is_missing(good: GGUFFile, tmp_path: Path) -> None:
    audit = changed(good, tmp_path / "a.gguf", {}, {"blk.1.attn_q.weight": None})
    assert levels(audit, "1.query") == ["warning"]


def test_bytes_at_the_end(good: GGUFFile, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(good.path.read_bytes() + bytes(1000))
    assert levels(audit_file(path), "follow the last tensor") == ["warning"]


def test_a_file_that_was_cut_off(good: GGUFFile, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(good.path.read_bytes()[:-1000])
    with pytest.raises(MalformedFile, match="but the file ends at byte"):
        audit_file(path)


@pytest.mark.parametrize(
    ("keys", "words", "level"),
    [
        ({"tokenizer.chat_template": None}, "no chat template", "note"),
        ({"tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}, "may never stop", "error"),
        ({"tokenizer.chat_template": "hello<|im_end|>"}, "loses what was said", "error"),
        ({"tokenizer.chat_template": "{{ raise_exception('no') }}"}, "fails on a plain conversation", "error"),
        ({"tokenizer.chat_template": "{% if %}"}, "fails on a plain conversation", "error"),
        ({"tokenizer.ggml.pre": None}, "how words are split", "warning"),
        ({"tokenizer.ggml.token_type": None}, "control tokens", "warning"),
        ({"tokenizer.ggml.eos_token_id": 100_000}, "cannot be used", "error"),
        ({"tokenizer.ggml.eos_token_id": 5}, "not marked as a control token", "warning"),
        ({"tokenizer.ggml.pre": "no-such-rule"}, "cannot be used", "error"),
    ],
)
def test_tokenizer_and_template(good: GGUFFile, tmp_path: Path, keys: dict[str, Any], words: str, level: str) -> None:
    assert level in levels(changed(good, tmp_path / "a.gguf", keys), words)


def test_fewer_embeddings_than_tokens(good: GGUFFile, tmp_path: Path) -> None:
    embedding = good.tensors["token_embd.weight"]
    fewer = replace(embedding, shape=(embedding.shape[0] - 1, embedding.shape[1]))
    audit = changed(good, tmp_path / "a.gguf", {}, {"token_embd.weight": copied_tensor(fewer)})
    assert levels(audit, "embeddings") == ["error"]


def test_a_control_token_that_is_none(good: GGUFFile, tmp_path: Path) -> None:
    kinds = good.get_ints("tokenizer.ggml.token_type", None)
    texts = good.require_strs("tokenizer.ggml.tokens").copy()
    assert kinds is not None
    texts[10] = "<|think|>"
    keys = {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.token_type": kinds.astype(np.int32)}
    assert levels(changed(good, tmp_path / "a.gguf", keys), "<|think|>") == ["warning"]


def test_no_end(good: GGUFFile, tmp_path: Path) -> None:
    assert levels(changed(good, tmp_path / "a.gguf", {"tokenizer.ggml.eos_token_id": None}), "no end-of-seq") == [
        "warning"
    ]
