"""BM25 over pairs of syllables and words: terms, weights, and what a stop in the middle of a word may not change."""

from __future__ import annotations

import unicodedata
from collections import Counter
from math import log

import numpy as np
import pytest

from madang.core.errors import UnknownOption
from madang.rag.lexical import K1, B, Terms, count_terms, find_analyzer, idf

bigrams = find_analyzer("bigrams")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("소유권이", ["소유", "유권", "권이"]),
        ("힙", ["힙"]),
        ("Rc<T>를 clone()으로", ["rc", "t", "를", "clone", "으로"]),
        ("snake_case x2 Straße", ["snake_case", "x2", "strasse"]),
        ("러스트Rust책", ["러스", "스트", "rust", "책"]),
        ("東京は", ["東京", "京は"]),
        ("Ⓐ full width", ["a", "full", "width"]),
        ("... !?", []),
        ("", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert list(bigrams(text)) == terms


def test_syllables_that_were_taken_apart_are_the_same() -> None:
    assert list(bigrams(unicodedata.normalize("NFD", "소유권 이동"))) == list(bigrams("소유권 이동"))


def test_a_noun_shares_its_pairs_with_and_without_particle() -> None:
    assert {*bigrams("소유권")} <= {*bigrams("소유권을")}
    assert not {*find_analyzer("whitespace")("소유권")} & {*find_analyzer("whitespace")("소유권을")}


def test_an_analyzer_that_there_is_not() -> None:
    with pytest.raises(UnknownOption, match="analyzer"):
        find_analyzer("magic")


def test_terms_survive_the_database() -> None:
    terms = count_terms(bigrams("the cat and the dog and the ferry"))
    again = Terms.from_bytes(terms.to_bytes())
    assert again.ids.tolist() == terms.ids.tolist() == sorted(terms.ids.tolist())
    assert again.counts.tolist() == terms.counts.tolist()
    assert again.n_terms == 8
    assert Terms.from_bytes(b"").n_terms == 0


def test_scores_are_bm25() -> None:
    """Against the formula, written out over words."""
    texts = ["the ferry leaves", "the ferry has a bar and the bar has a ferry", "tomatoes want water"]
    words = [text.split() for text in texts]
    mean = sum(map(len, words)) / len(words)
    query = ["ferry", "bar", "unknown"]

    def by_hand(chunk: list[str]) -> float:
        score = 0.0
        for term in query:
            n_with = sum(term in other for other in words)
            tf = Counter(chunk)[term]
            weight = tf * (K1 + 1) / (tf + K1 * (1 - B + B * len(chunk) / mean))
            score += log(1 + (len(words) - n_with + 0.5) / (n_with + 0.5)) * weight
        return score

    asked = count_terms(query)
    for text, chunk in zip(texts, words, strict=True):
        terms = count_terms(bigrams(text))
        weights = dict(zip(terms.ids.tolist(), terms.weights(mean), strict=True))
        n_with = {id: sum(id in count_terms(bigrams(other)).ids for other in texts) for id in asked.ids.tolist()}
        score = sum(idf(len(texts), n_with[id]) * weights.get(id, 0.0) for id in asked.ids.tolist())
        assert score == pytest.approx(by_hand(chunk), rel=1e-5)


def test_a_word_that_all_have_tells_next_to_nothing_and_never_less() -> None:
    assert 0 <= idf(10, 10) < idf(10, 9) < idf(10, 1) < idf(10, 0)


def test_a_text_that_repeats_a_word_beyond_measure() -> None:
    terms = count_terms(["x"] * 100_000)
    assert terms.counts.tolist() == [0xFFFF]
    assert np.isfinite(terms.weights(10.0)).all()


def test_kiwi_finds_the_noun_below_the_particle() -> None:
    pytest.importorskip("kiwipiepy")
    kiwi = find_analyzer("kiwi")
    assert {*kiwi("고양이가 물고기를 먹었다")} >= {"고양이", "물고기", "먹"}
    assert not {"가", "를", "었"} & {*kiwi("고양이가 물고기를 먹었다")}
