"""Cross-encoders against transformers: from a folder, as GGUF, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from madang.conversion import to_folder, to_gguf
from madang.core import EngineInfo, Reranker
from madang.core.errors import CannotConvert, ContextLengthExceeded, EngineError, UnsupportedModel
from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.native import NativeReranker
from madang.native.loader import load_decoder
from madang.native.opening import read_model
from tests.native.conftest import as_plan
from tests.parity.references import torch
from tests.parity.rerankers import KINDS, N_POSITIONS, Built, build, transformers

QUERY = "how many values is the owner of"
DOCUMENTS = [
    "the owner moves a value",
    "rust",
    "서울 은 수도",
    "check of memory " * 12,
    "rust",
    "a ship in the memory",
]


@pytest.fixture(scope="module", params=KINDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(request.param, tmp_path_factory.mktemp("reranker"))


@contextmanager
def opened(path: Path, context_tokens: int = N_POSITIONS) -> Iterator[NativeReranker]:
    description, tokenizer = read_model(path, "huggingface" if path.is_dir() else "gguf")
    decoder = load_decoder("tiny", description, as_plan())
    info = EngineInfo("native", "tiny", context_tokens)
    with closing(NativeReranker(info, decoder, tokenizer, description)) as loaded:
        yield loaded


def test_its_scores_are_those_of_transformers(built: Built) -> None:
    expected = built.logits(QUERY, DOCUMENTS)
    assert np.ptp(expected) > 0.03  # the limit below is a small part of what documents differ by
    with opened(built.folder) as loaded:
        assert isinstance(loaded, Reranker)
        result = loaded.rerank(QUERY, DOCUMENTS)
    assert np.abs(np.array(result.scores) - expected).max() < 1e-4
    assert result.prompt_tokens == sum(len(built.tokenizer(QUERY, document).input_ids) for document in DOCUMENTS)
    assert not result.cut


def test_pairs_are_encoded_as_the_template_says(built: Built) -> None:
    tokenizer = read_model(built.folder, "huggingface")[1]
    expected = built.tokenizer(QUERY, DOCUMENTS[0], return_token_type_ids=True)
    texts = (tokenizer.encode(text, add_special=False, parse_special=False) for text in (QUERY, DOCUMENTS[0]))
    assert tokenizer.pair(*texts) == (expected.input_ids, expected.token_type_ids)
    assert (1 in expected.token_type_ids) == (built.kind == "bert")


def test_there_and_back(built: Built, tmp_path: Path) -> None:
    gguf, folder = tmp_path / "there.gguf", tmp_path / "back"
    to_gguf(built.folder, gguf, TensorType.F32, name="tiny", n_threads=1)
    to_folder(gguf, folder, n_threads=1)
    assert read_gguf(gguf).get_int("bert.pooling_type", 0) == 4
    expected = built.logits(QUERY, DOCUMENTS)
    for path in (gguf, folder):
        with opened(path) as loaded:
            assert np.abs(np.array(loaded.rerank(QUERY, DOCUMENTS).scores) - expected).max() < 1e-4
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    encoded = built.tokenizer(QUERY, DOCUMENTS[0], return_tensors="pt")
    with torch.inference_mode():
        assert abs(again(**encoded).logits.item() - expected[0]) < 1e-4


def test_company_changes_no_bit(built: Built) -> None:
    with opened(built.folder) as loaded:
        together = loaded.rerank(QUERY, DOCUMENTS * 4).scores
        alone = [loaded.rerank(QUERY, [document]).scores[0] for document in DOCUMENTS]
    assert together == alone * 4
    assert loaded.rerank(QUERY, []).scores == []
    with pytest.raises(EngineError, match="closed"):
        loaded.rerank(QUERY, ["a"])


def test_long_documents_are_cut_and_long_queries_refused(built: Built) -> None:
    with opened(built.folder, 40) as loaded:
        n_added = len(built.tokenizer(QUERY, "rust").input_ids) - 1
        fitting = " ".join(["rust"] * (40 - n_added))
        longer = fitting + " owner moves values"
        result = loaded.rerank(QUERY, [longer, fitting, "rust"])
        assert list(result.cut) == [0]
        assert result.scores[0] == result.scores[1] != result.scores[2]
        with pytest.raises(ContextLengthExceeded):
            loaded.rerank("rust " * 35, ["a"])


def test_more_than_one_label_is_refused(tmp_path: Path) -> None:
    built = build("bert", tmp_path, num_labels=3)
    with pytest.raises(UnsupportedModel, match="3 labels"):
        describe_folder(built.folder)


def test_a_file_without_the_pooler_is_read_but_is_no_folder(tmp_path: Path) -> None:
    """As llama.cpp's converter writes BERT: what is left of its head is one product."""
    from tests.parity.families import gguf

    built = build("bert", tmp_path)
    whole, less = tmp_path / "whole.gguf", tmp_path / "less.gguf"
    to_gguf(built.folder, whole, TensorType.F32, name="tiny", n_threads=1)
    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(less, "bert")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        if not tensor.name.startswith("cls.") or tensor.name.startswith("cls.output"):
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "rank_dense" not in describe_gguf(read_gguf(less)).tensors
    with opened(less) as loaded:
        first, second = loaded.rerank(QUERY, DOCUMENTS[:2]).scores
    assert first != second
    with pytest.raises(CannotConvert, match="pooler"):
        to_folder(less, tmp_path / "back")


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_gives_the_same_scores(kind: str, tmp_path: Path) -> None:
    """It gives every token type 0, so a BERT that has learned two of them would be another model there."""
    from tests.conversion.peers import LlamaCpp

    built, gguf = build(kind, tmp_path, type_vocab_size=1), tmp_path / "tiny.gguf"
    to_gguf(built.folder, gguf, TensorType.F32, name="tiny", n_threads=1)
    theirs = LlamaCpp(gguf, 0, encoder=True, ranks=True).rerank(QUERY, DOCUMENTS)
    with opened(gguf) as loaded:
        ours = loaded.rerank(QUERY, DOCUMENTS).scores
    assert np.abs(np.array(theirs) - ours).max() < 1e-3
