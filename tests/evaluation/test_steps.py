"""What is read of a model is what it gives, and nothing is made up where it gives nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core import Scored
from madang.core.errors import InvalidRequest
from madang.evaluation.steps import read_passage, text_tokens

WORDS = 300


class Bytes:
    """A token per byte, each as likely as a table says; ``begins`` puts a token before every text."""

    def __init__(self, *, seed: int = 0, begins: bool = False, shift: int = 0, words: int = WORDS) -> None:
        self.rows = np.random.default_rng(seed).normal(0, 2, (words, words)).astype(np.float32)
        self.begins, self.shift = begins, shift

    def tokenize(self, text: str) -> Sequence[int]:
        return [*([299] if self.begins else []), *(byte + self.shift for byte in text.encode())]

    def logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        yield self.rows[list(tokens)]


class Scoring:
    """Knows the likelihood of whole texts only."""

    def score(self, context: Any, continuations: Sequence[str]) -> list[Scored]:
        return [Scored(-0.5 * len(text), len(text), False) for text in continuations]

    def score_many(self, items: Any) -> Iterator[list[Scored]]:
        for context, continuations in items:
            yield self.score(context, continuations)


def test_all_of_a_text_is_predicted_whether_or_not_something_begins_it() -> None:
    assert list(text_tokens(Bytes(), "ab")) == [10, 97, 98]
    assert list(text_tokens(Bytes(begins=True), "ab")) == [299, 97, 98]


def test_the_likelihood_of_a_text_is_that_of_its_tokens() -> None:
    model = Bytes()
    found = read_passage(model, {"do": "read", "text": "ab"})
    logprobs = model.rows.astype(np.float64)
    logprobs -= np.log(np.exp(logprobs).sum(-1, keepdims=True))
    assert found["tokens"] == 2
    assert found["nats"] == pytest.approx(-(logprobs[10, 97] + logprobs[97, 98]), rel=1e-5)


def test_kept_logits_are_what_another_is_compared_with(tmp_path: Path) -> None:
    file = str(tmp_path / "kept.npy")
    kept = read_passage(Bytes(), {"text": "some text", "keep": file})
    against = {"file": file, "token_digest": kept["token_digest"]}
    same = read_passage(Bytes(), {"text": "some text", "against": against})
    assert max(same["kl"]) < 1e-9
    assert same["agreed"] == same["tokens"] == len(same["kl"])
    other = read_passage(Bytes(seed=1), {"text": "some text", "against": against})
    assert math.fsum(other["kl"]) / len(other["kl"]) > 0.5
    assert other["agreed"] < other["tokens"]


def test_rows_that_stand_for_no_token_do_not_matter(tmp_path: Path) -> None:
    file = str(tmp_path / "kept.npy")
    wide = Bytes(words=320)
    narrow = Bytes()
    narrow.rows = wide.rows[:WORDS, :WORDS]
    kept = read_passage(wide, {"text": "text", "keep": file})
    found = read_passage(narrow, {"text": "text", "against": {"file": file, "token_digest": kept["token_digest"]}})
    assert max(found["kl"]) < 1e-9


def test_other_tokens_are_not_compared(tmp_path: Path) -> None:
    file = str(tmp_path / "kept.npy")
    kept = read_passage(Bytes(), {"text": "text", "keep": file})
    step = {"text": "text", "against": {"file": file, "token_digest": kept["token_digest"]}}
    assert "kl" not in read_passage(Bytes(shift=1), step)


def test_an_engine_that_scores_texts_has_a_likelihood_but_no_distribution() -> None:
    assert read_passage(Scoring(), {"text": "four"}) == {"tokens": 4, "nats": 2.0, "token_digest": None}


def test_an_engine_without_probabilities_is_not_measured() -> None:
    with pytest.raises(InvalidRequest, match="Not measurable with this engine"):
        read_passage(object(), {"text": "x"})
