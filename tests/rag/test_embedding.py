"""Which texts a model can read, by the languages that the catalog says it knows."""

from __future__ import annotations

import pytest

from madang.rag.embedding import QUESTION_SHARE, ModelFacts, estimate_tokens


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


def test_prefixes_are_those_of_the_catalog() -> None:
    assert ModelFacts.of("multilingual-e5:small").prefixes.query == "query: "
    assert ModelFacts.of("multilingual-e5:small").prefixes.document == "passage: "


def test_tokens_of_nothing_and_of_two_scripts() -> None:
    assert estimate_tokens(["", "abcd", "abcde", "배는 아홉 시에"]) == [0, 1, 2, 5]
