"""Which texts a model can read, by the languages that the catalog says it knows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from madang.core.engine import Embeddings, EngineInfo
from madang.models import Prefixes
from madang.rag.embedding import QUESTION_SHARE, ModelFacts, embed_passages, embed_query, estimate_tokens


@pytest.mark.parametrize(
    ("model", "text", "can"),
    [
        ("all-minilm:l6", "Where is the ferry?", True),
        ("all-minilm", "Où est le café à la crème brûlée?", True),
        ("all-minilm:l6", "배는 어디에 있나요?", False),
        ("all-minilm:l6", "search_case_insensitive 함수는 어떻게 구현하나요?", False),
        ("all-minilm:l6", "What does 배 mean?", True),
        ("all-minilm:l6", "1 + 1 = ?", True),
        ("bge-m3", "배는 어디에 있나요?", True),
        ("bge-m3", "Where is the ferry?", True),
        ("file:/no/such/model.gguf", "배는 어디에 있나요?", True),
    ],
)
def test_a_question_is_read_in_the_scripts_of_the_models_languages(model: str, text: str, can: bool) -> None:
    assert ModelFacts.of(model).can_read(text, QUESTION_SHARE) == can


def test_a_passage_of_code_with_korean_between_is_read() -> None:
    assert ModelFacts.of("all-minilm:l6").can_read("fn main() { let value = compute(); }  // 값을 계산한다")


class Counting:
    """An embedder of words: it counts them, and refuses more than it reads."""

    def __init__(self) -> None:
        self.info = EngineInfo(engine="test", model="counting", context_tokens=5)
        self.read: list[str] = []

    def count_text_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.info.check_texts([[0] * n for n in self.count_text_tokens(texts)])
        self.read += texts
        return Embeddings([[3.0, 4.0] for _ in texts], 0)

    def close(self) -> None:
        pass


def test_of_a_text_that_is_too_long_the_beginning_is_read_after_its_prefix() -> None:
    embedder = Counting()
    facts = ModelFacts(Prefixes("query: ", "passage: "), frozenset({"LATIN"}), "counting")
    texts = ["one two three four five six seven eight", "둘", "short"]
    vectors = [vector for batch in embed_passages(embedder, facts, texts) for vector in batch]
    assert [vector is None for vector in vectors] == [False, True, False]
    assert vectors[0] is not None and vectors[0].tolist() == pytest.approx([0.6, 0.8])  # of length 1
    assert embedder.read[0].startswith("passage: one two three")
    assert embedder.read[1] == "passage: short"
    assert embed_query(embedder, facts, "what").tolist() == pytest.approx([0.6, 0.8])
    assert embedder.read[-1] == "query: what"


def test_prefixes_are_those_of_the_catalog() -> None:
    assert ModelFacts.of("multilingual-e5:small").prefixes.query == "query: "
    assert ModelFacts.of("multilingual-e5:small").prefixes.document == "passage: "


def test_tokens_of_nothing_and_of_two_scripts() -> None:
    assert estimate_tokens(["", "abcd", "abcde", "배는 아홉 시에"]) == [0, 1, 2, 5]
