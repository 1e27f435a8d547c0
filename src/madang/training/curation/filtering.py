"""Textbook quality: what is dropped, and why, with the number that decided.

Three judges, in this order, and the later ones see only what the earlier ones let pass: rules on what can be seen of
a text (after C4, arXiv:1910.10683, and Gopher, arXiv:2112.11446), the likelihood that a small model gives it
(CCNet, arXiv:1911.00359), and a classifier trained on examples of good and bad (phi-1, arXiv:2306.11644).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from madang.core.errors import InvalidRequest
from madang.training.curation.classifier import Classifier
from madang.training.curation.likelihood import Likelihood
from madang.training.curation.measures import measure
from madang.training.curation.rules import MIN_ANSWER, MIN_TEXT, Rules
from madang.training.examples.example import Example

_SHOWN: Final = 3
_SHOWN_CHARACTERS: Final = 120
_SCORED_AT_ONCE: Final = 64
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an example was dropped: the rule's name, and the number that it had."""

    rule: str
    value: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"rule": self.rule, "value": round(self.value, 4)}


@dataclass(frozen=True, slots=True)
class Judged:
    """An example and why it is dropped; without reasons it is kept."""

    example: Example
    reasons: tuple[Reason, ...] = ()
    perplexity: float | None = None
    quality: float | None = None


class Filter:
    """Judges one example after the other, and counts."""

    def __init__(
        self, rules: Rules, *, likelihood: Likelihood | None = None, classifier: Classifier | None = None
    ) -> None:
        """Raises InvalidRequest for limits of perplexity without a model that could tell it."""
        if likelihood is None and (rules.max_perplexity is not None or rules.min_perplexity is not None):
            raise InvalidRequest(
                "A limit of perplexity needs a model that reads the data.", param="model", hint="Give one with --model."
            )
        self.rules = rules
        self.report = FilterReport()
        self._likelihood = likelihood
        self._classifier = classifier

    def judge(self, examples: Iterable[Example]) -> Iterator[Judged]:
        """Every example in order; memory holds a few at a time."""
        source = iter(examples)
        while batch := list(islice(source, _SCORED_AT_ONCE)):
            seen = [(example, self._visible(example)) for example in batch]
            perplexities = self._perplexities([example for example, reasons in seen if not reasons])
            for example, reasons in seen:
                judged = self._judged(example, reasons, None if reasons else next(perplexities))
                self.report.add(judged)
                yield judged

    def _visible(self, example: Example) -> tuple[Reason, ...]:
        rules, found = self.rules, measure(example.answer)
        least = rules.min_characters
        if least is None:
            least = MIN_ANSWER if example.text is None else MIN_TEXT
        over: dict[str, tuple[float, float | None]] = {
            "too long": (found.characters, rules.max_characters),
            "symbols": (found.symbol_share, rules.max_symbol_share),
            "digits": (found.digit_share, rules.max_digit_share),
            "repetition": (found.repeated_share, rules.max_repeated_share),
            "repeated lines": (found.repeated_line_share, rules.max_repeated_line_share),
            "one word": (found.top_word_share, rules.max_top_word_share),
            "boilerplate": (found.boilerplate_share, rules.max_boilerplate_share),
        }
        reasons = [Reason("too short", found.characters)] if found.characters < least else []
        reasons += [Reason(rule, value) for rule, (value, most) in over.items() if most is not None and value > most]
        if rules.language is not None and found.languages[rules.language] < rules.min_language_share:
            reasons.append(Reason("language", found.languages[rules.language]))
        return tuple(reasons)

    def _perplexities(self, examples: list[Example]) -> Iterator[float | None]:
        return iter([None] * len(examples)) if self._likelihood is None else self._likelihood.perplexities(examples)

    def _judged(self, example: Example, reasons: tuple[Reason, ...], perplexity: float | None) -> Judged:
        rules = self.rules
        if perplexity is not None:
            if rules.max_perplexity is not None and perplexity > rules.max_perplexity:
                reasons = (Reason("unlikely", perplexity),)
            elif rules.min_perplexity is not None and perplexity < rules.min_perplexity:
                reasons = (Reason("predictable", perplexity),)
        quality = None if reasons or self._classifier is None else self._classifier.probability(example.everything)
        if quality is not None and quality < rules.min_quality:
            reasons = (Reason("quality", quality),)
        return Judged(example, reasons, perplexity, quality)


@dataclass(slots=True)
class FilterReport:
    """Counts, and the first few that each rule dropped."""

    kept: int = 0
    dropped: int = 0
    by_rule: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    perplexities: list[float] = field(default_factory=list)

    def add(self, judged: Judged) -> None:
        """Count one."""
        if judged.perplexity is not None:
            self.perplexities.append(judged.perplexity)
        if not judged.reasons:
            self.kept += 1
            return
        self.dropped += 1
        for reason in judged.reasons:
            self.by_rule[reason.rule] = self.by_rule.get(reason.rule, 0) + 1
            shown = self.shown.setdefault(reason.rule, [])
            if len(shown) < _SHOWN:
                text = " ".join(judged.example.answer.split())[:_SHOWN_CHARACTERS]
                shown.append({"line": judged.example.line, "value": round(reason.value, 4), "text": text})

    def to_dict(self) -> dict[str, Any]:
        """For JSON. An example that several rules drop counts for each."""
        quantiles: Mapping[str, float] | None = None
        if self.perplexities:
            values = np.quantile(self.perplexities, _QUANTILES).tolist()
            quantiles = {f"{share:g}": round(value, 3) for share, value in zip(_QUANTILES, values, strict=True)}
        return {
            "kept": self.kept,
            "dropped": self.dropped,
            "by_rule": dict(sorted(self.by_rule.items(), key=lambda item: -item[1])),
            "examples": self.shown,
            "perplexity_quantiles": quantiles,
        }
