"""Translation and other texts with a reference: BLEU as sacrebleu computes it (Post 2018, arXiv:1804.08771)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from madang.core.errors import InvalidRequest
from madang.evaluation.measures import CONFIDENCE, MIN_DRAWN
from madang.evaluation.tasks.answers import raw_request
from madang.evaluation.tasks.rows import text_of
from madang.evaluation.tasks.task import Figure, Graded, Item, Prompt, Response, Rows, RowTask, Shots

_N_RESAMPLES: Final = 1000
_SEED: Final = 0
_ORDERS: Final = 4


class Translation(RowTask):
    """BLEU of a corpus, from 0 to 100; an item's score is its sentence BLEU. Reads source and target.

    ``tokenize`` is sacrebleu's: 13a for what spaces separate, char, ja-mecab, ko-mecab, zh.
    """

    metric: str = "BLEU"
    _TOKENS: ClassVar[int] = 256

    def __init__(self, name: str, rows: Rows, shots: Shots | None = None, *, tokenize: str = "13a") -> None:
        super().__init__(name, rows, shots)
        self._tokenize = tokenize

    def prompt(self, item: Item) -> Prompt:
        """Source and an arrow; which languages it is about is for the examples to show."""
        solved = "".join(f"{text_of(row, 'source')} => {text_of(row, 'target')}\n" for row in self._shots.rows)
        text = f"{self._shots.description}{solved}{text_of(item.row, 'source')} =>"
        return Prompt(raw_request(text, self._TOKENS, ("\n",)))

    def said(self, item: Item, response: Response) -> str:
        """Without spaces around it."""
        return response.text.strip()

    def score(self, item: Item, response: Response) -> float:
        """BLEU of the sentence, with effective order."""
        metric = _bleu(self._tokenize, effective_order=True)
        score: float = metric.sentence_score(self.said(item, response), [text_of(item.row, "target")]).score
        return score

    def figure(self, graded: Sequence[Graded]) -> Figure:
        """BLEU of the corpus; sentences are drawn again for the interval."""
        metric = _bleu(self._tokenize)
        counts = np.array(
            [
                _counts(metric.corpus_score([self.said(own.item, own.response)], [[text_of(own.item.row, "target")]]))
                for own in graded
            ]
        )
        value = _score(metric, counts.sum(axis=0))
        if len(graded) < MIN_DRAWN:
            return {"value": value, "low": None, "high": None, "confidence": CONFIDENCE, "standard_error": None}
        chance = np.random.default_rng(_SEED)
        drawn = [
            _score(metric, counts[chance.integers(len(counts), size=len(counts))].sum(axis=0))
            for _ in range(_N_RESAMPLES)
        ]
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return {
            "value": value,
            "low": float(low),
            "high": float(high),
            "confidence": CONFIDENCE,
            "standard_error": float(np.std(drawn)),
        }


def _bleu(tokenize: str, **options: Any) -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        raise InvalidRequest(
            "BLEU needs the package sacrebleu, which is not installed.",
            hint="Install it with: pip install madang[eval]",
        ) from None
    try:
        return BLEU(tokenize=tokenize, **options)
    except (AssertionError, ImportError, RuntimeError, ValueError) as error:
        raise InvalidRequest(f"sacrebleu cannot cut words with '{tokenize}': {error}.", param="tokenize") from error


def _counts(found: Any) -> list[int]:
    """What BLEU is computed from: n-grams that match, all n-grams, and both lengths."""
    return [*found.counts, *found.totals, found.sys_len, found.ref_len]


def _score(metric: Any, counts: Any) -> float:
    numbers = [int(count) for count in counts]
    score: float = metric.compute_bleu(
        correct=numbers[:_ORDERS],
        total=numbers[_ORDERS : 2 * _ORDERS],
        sys_len=numbers[-2],
        ref_len=numbers[-1],
        smooth_method="exp",
    ).score
    return score
