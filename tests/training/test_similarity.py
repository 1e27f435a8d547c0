"""What is nearly the same is found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from madang.training.similarity import NearIndex, clusters, jaccard, normalized, runs_of, shingles


def words(random: np.random.Generator, n: int) -> list[str]:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz가나다라마바사아자차카타파하"))
    return ["".join(random.choice(letters, 6)) for _ in range(n)]


def test_normalized_texts() -> None:
    assert normalized("  Hello,\n WORLD!! ") == "hello world"
    assert normalized("한글") == normalized("한글")  # composed and not


@pytest.mark.parametrize("text", ["", "a", "안녕", "hello", "hello world, 안녕하세요 여러분"])
def test_shingles_are_those_of_the_definition(text: str) -> None:
    expected = {text[i : i + 5] for i in range(max(1, len(text) - 4))}
    assert shingles(text).size == len(expected)


def test_jaccard_is_that_of_the_sets() -> None:
    a, b = "the quick brown fox jumps", "the quick brown cat jumps"
    sets = [{text[i : i + 5] for i in range(len(text) - 4)} for text in (a, b)]
    assert jaccard(shingles(a), shingles(b)) == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))


def test_clusters_are_those_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    texts: list[str] = []
    for _ in range(60):
        base = words(random, 20)
        texts.append(" ".join(base))
        for n_changed in (1, 2, 4):
            changed = list(base)
            for at in random.choice(20, n_changed, replace=False):
                changed[at] = words(random, 1)[0]
            texts.append(" ".join(changed))
    order = random.permutation(len(texts))
    texts = [texts[i] for i in order]
    sets = [shingles(normalized(text)) for text in texts]
    similar = {(i, j) for i in range(len(texts)) for j in range(i) if jaccard(sets[i], sets[j]) >= 0.6}
    roots = clusters(texts, 0.6)
    missed = [(i, j) for i, j in similar if roots[i] != roots[j]]
    assert similar and len(missed) <= len(similar) / 100
    for i, root in enumerate(roots.tolist()):  # never joined without a chain of pairs, of which one is its own
        assert root == i or any((max(i, j), min(i, j)) in similar for j in range(len(texts)) if j != i)


def test_the_same_text_needs_no_hashing() -> None:
    assert clusters(["Hello, there!", "other", "hello there"], 1.0).tolist() == [0, 1, 0]
    assert clusters([], 0.8).tolist() == []
    assert clusters(["", "", "a"], 0.8).tolist() == [0, 0, 2]


def test_a_text_of_many_batches() -> None:
    long = " ".join(words(np.random.default_rng(2), 200_000))
    assert clusters(["short one", long, long + " end"], 0.9).tolist() == [0, 1, 1]


def test_an_index_that_grows() -> None:
    index = NearIndex(0.6)
    assert index.nearest("the quick brown fox jumps over the lazy dog") is None
    for text in ("the quick brown fox jumps over the lazy dog", "등대는 배에게 암초를 알려 줍니다"):
        index.add(text)
    found = index.nearest("The quick brown fox jumps over a lazy dog!")
    assert found is not None and found[0] == 0 and 0.6 <= found[1] < 1
    assert index.nearest("등대는 배에게 암초를 알려 줍니다.") == (1, 1.0)
    assert index.nearest("something entirely different") is None


def test_runs() -> None:
    assert runs_of("abcabcabc", 3) == (7, 3)
    assert runs_of("ab", 3) == (0, 0)
