"""Vectors of texts: several in one step without padding, against ``transformers`` one by one; and a real model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from madang import _core
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import EmbeddingSpec
from madang.formats.tokenizers import tokenizer_from_json
from tests.parity.families import FAMILIES, Family, build
from tests.parity.references import torch, transformers
from tests.parity.running import PAGE_TOKENS, decoder_of

Vectors = npt.NDArray[np.float32]  # [texts, n_embd]
ENCODERS = [family for family in FAMILIES if family.encoder]
TEXTS = [np.random.default_rng(n).integers(3, 259, n).tolist() for n in (1, 17, 64, 5, 100)]
SENTENCES = (
    "A man is eating food.",
    "A man eats a piece of bread.",
    "The girl is carrying a baby.",
    "한국어 문장은 어떻게 나뉘나요?",
    "Numbers: 3.14159, 2,718 and 1e-9; e-mail: a.b@c.d — naïve café, ﬁne.",
    "word " * 200,
)


def vectors(decoder: _core.Decoder, texts: Sequence[Sequence[int]], embedding: EmbeddingSpec) -> Vectors:
    """All texts in one step, each with pages of its own."""
    sizes = [len(text) for text in texts]
    n_pages = -(-max(sizes) // PAGE_TOKENS)
    table = np.arange(len(texts) * n_pages, dtype=np.int32).reshape(len(texts), n_pages)
    decoder.reserve_pages(table.size)
    tokens = np.concatenate([np.array(text, np.int32) for text in texts])
    positions = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    sequences = np.repeat(np.arange(len(texts), dtype=np.int32), sizes)
    decoder.step(tokens, positions, sequences, table, np.arange(len(tokens), dtype=np.int32), wants_logits=False)
    rows = np.stack([decoder.hidden(row) for row in range(len(tokens))])
    return np.stack([pooled(part, embedding) for part in np.split(rows, np.cumsum(sizes)[:-1])])


def pooled(hidden: Vectors, embedding: EmbeddingSpec) -> Vectors:
    vector: Vectors = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[embedding.pooling]
    return vector / np.linalg.norm(vector) if embedding.normalized else vector


def expected_vectors(reference: object, texts: Sequence[Sequence[int]], embedding: EmbeddingSpec) -> Vectors:
    with torch.inference_mode():
        states = [reference(torch.tensor([list(text)])).last_hidden_state[0].numpy() for text in texts]  # type: ignore[operator]
    return np.stack([pooled(state, embedding) for state in states])


@pytest.mark.parametrize("family", ENCODERS, ids=str)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_of_a_batch(family: Family, pooling: str, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    embedding = EmbeddingSpec(pooling)  # type: ignore[arg-type]
    expected = expected_vectors(built.reference, TEXTS, embedding)
    assert built.gguf is not None
    for description in (describe_folder(built.folder), describe_gguf(read_gguf(built.gguf))):
        assert description.embedding == EmbeddingSpec("mean")
        decoder = decoder_of(description)
        together = vectors(decoder, TEXTS, embedding)
        assert np.abs(together - expected).max() < 1e-2 * expected.std()  # keys and values are kept in float16
        alone = np.concatenate([vectors(decoder, [text], embedding) for text in TEXTS])
        assert np.array_equal(together, alone)


def test_a_real_model(minilm_folder: Path) -> None:
    description = describe_folder(minilm_folder)
    assert description.spec.context_tokens == 512
    assert description.embedding is not None
    tokenizer = tokenizer_from_json(minilm_folder)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    texts = [tokenizer.encode(sentence) for sentence in SENTENCES]
    assert texts == [theirs(sentence)["input_ids"] for sentence in SENTENCES]
    reference = transformers.AutoModel.from_pretrained(minilm_folder, attn_implementation="eager").eval()
    expected = expected_vectors(reference, texts, description.embedding)
    actual = vectors(decoder_of(description), texts, description.embedding)
    assert (actual * expected).sum(1).min() > 0.99999
    assert np.abs(actual - expected).max() < 1e-3
    assert actual[0] @ actual[1] > 0.7 > actual[0] @ actual[2]
