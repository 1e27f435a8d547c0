"""What is measured between two models is what the definitions say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core.errors import EngineError, InvalidRequest
from madang.quantization.divergence import KeptLogits, compare, cut, fold, measure, measure_all, reduction

WORDS = 37


class Table:
    """A source of logits that depend on the token alone."""

    def __init__(self, seed: int, *, noise: float = 0.0) -> None:
        self.rows = np.random.default_rng(0).normal(0, 3, (WORDS, WORDS)).astype(np.float32)
        self.rows += np.random.default_rng(seed).normal(0, 1, self.rows.shape).astype(np.float32) * np.float32(noise)
        self.n_read = 0

    def tokenize(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        self.n_read += len(tokens)
        for begin in range(0, len(tokens), 7):
            yield self.rows[list(tokens[begin : begin + 7])]


def chunks(n: int, length: int = 20) -> list[list[int]]:
    return np.random.default_rng(1).integers(0, WORDS, (n, length)).tolist()


def log_softmax(rows: Any) -> Any:
    rows = rows.astype(np.float64)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def test_figures_are_those_of_float64() -> None:
    reference, other, texts = Table(1), Table(2, noise=0.5), chunks(3)
    found = measure(reference, other, texts)
    p = np.concatenate([log_softmax(reference.rows[text[:-1]]) for text in texts])
    q = np.concatenate([log_softmax(other.rows[text[:-1]]) for text in texts])
    targets = np.concatenate([text[1:] for text in texts])
    assert np.abs(found.kl - (np.exp(p) * (p - q)).sum(-1)).max() < 1e-6
    assert np.array_equal(found.agrees, p.argmax(-1) == q.argmax(-1))
    at = np.arange(len(targets))
    assert found.perplexity == pytest.approx(np.exp(-q[at, targets].mean()), rel=1e-6)
    assert found.reference_perplexity == pytest.approx(np.exp(-p[at, targets].mean()), rel=1e-6)
    assert found.ends == (19, 38, 57)


def test_a_model_does_not_differ_from_itself() -> None:
    found = measure(Table(1), Table(1), chunks(2))
    assert found.mean < 1e-12
    assert found.agreement == 1
    assert found.perplexity == found.reference_perplexity


def test_several_are_measured_with_one_reading_of_the_reference() -> None:
    reference, texts = Table(1), chunks(2)
    found = measure_all(reference, [Table(2, noise=0.1), Table(2, noise=0.5)], texts)
    assert reference.n_read == 2 * 19
    assert found[0].mean < found[1].mean
    assert found[1].mean == measure(Table(1), Table(2, noise=0.5), texts).mean


def test_chunks_weigh_by_their_tokens() -> None:
    reference, other = Table(1), Table(2, noise=0.3)
    long, short = chunks(1, 40)[0], chunks(1, 5)[0]
    parts = [measure(reference, other, [text]) for text in (long, short)]
    whole = fold(parts)
    assert whole.mean == pytest.approx((39 * parts[0].mean + 4 * parts[1].mean) / 43)
    sums, counts = whole.chunk_sums()
    assert sums.tolist() == pytest.approx([39 * parts[0].mean, 4 * parts[1].mean])
    assert counts.tolist() == [39, 4]


def test_kept_logits_are_read_once_and_exact(tmp_path: Path) -> None:
    source, other, texts = Table(1), Table(2, noise=0.3), chunks(3)
    kept = KeptLogits(tmp_path, source, texts, WORDS)
    assert measure(kept, other, texts).kl.tolist() == measure(Table(1), other, texts).kl.tolist()
    assert source.n_read == 3 * 19
    KeptLogits(tmp_path, source, texts, WORDS)  # all is there
    assert source.n_read == 3 * 19
    measure(kept, other, chunks(4)[3:])  # one that is not
    assert source.n_read == 4 * 19
    kept.forget()
    assert not list(tmp_path.iterdir())


def test_an_interval_holds_the_truth_and_says_when_there_is_nothing() -> None:
    texts = chunks(60)
    better, worse = (measure(Table(1), Table(2, noise=noise), texts) for noise in (0.2, 0.4))
    interval = reduction(better, worse)
    assert 0 < interval.low < interval.value < interval.high < 1
    assert interval.value == pytest.approx(1 - better.mean / worse.mean)
    even = reduction(measure(Table(1), Table(3, noise=0.3), texts), measure(Table(1), Table(4, noise=0.3), texts))
    assert even.high - even.low > 0
    assert reduction(better, better).value == 0
    with pytest.raises(ValueError, match="same chunks"):
        reduction(better, measure(Table(1), Table(1), texts[1:]))


def test_chunks_are_spread_over_the_text() -> None:
    assert cut(range(25), 10) == [list(range(10)), list(range(10, 20))]
    assert [chunk[0] for chunk in cut(range(100), 10, at_most=3)] == [0, 30, 60]
    with pytest.raises(InvalidRequest, match="has 9 tokens, but a chunk needs 10"):
        cut(range(9), 10)


def test_what_cannot_be_compared_is_refused() -> None:
    rows = np.zeros((2, 5), np.float32)
    with pytest.raises(EngineError, match="to compare"):
        compare(rows, rows[:1], [0, 1, 2])
    with pytest.raises(EngineError, match="not finite"):
        compare(rows, rows * np.float32(np.nan), [0, 1, 2])
