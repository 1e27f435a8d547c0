"""Good or bad, learnt from examples of both: logistic regression on hashed runs of characters.

Runs of two to five characters within words say enough of style in every script; they are hashed into a table
(Weinberger 2009), so nothing but its weights is kept. How far to believe it, cross-validation says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from madang.core.errors import InvalidRequest
from madang.training.similarity import normalized

MIN_EACH: Final = 10
_BITS: Final = 18
_MOST_CHARACTERS: Final = 4000
_RUNS: Final = (2, 3, 4, 5)
_STEPS: Final = 120
_RATE: Final = 4.0
_DECAY: Final = 1e-4
_FOLDS: Final = 5

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Classifier:
    """``accuracy`` is balanced, on examples that a fold had not seen; a coin has 0.5."""

    weights: Floats
    bias: float
    accuracy: float
    n_good: int
    n_bad: int

    def probability(self, text: str) -> float:
        """That a text is of the good kind, 0 to 1."""
        places, values = _features(text)
        return float(_sigmoid(np.array(self.weights[places] @ values + self.bias)))


def train_classifier(good: Sequence[str], bad: Sequence[str], seed: int = 0) -> Classifier:
    """Learn to tell them apart; the same texts and seed give the same classifier.

    Raises InvalidRequest for fewer than MIN_EACH of one kind.
    """
    if min(len(good), len(bad)) < MIN_EACH:
        raise InvalidRequest(
            f"There are {len(good)} good and {len(bad)} bad examples, but {MIN_EACH} of each are needed.",
            param="good",
            hint="Label more, or filter by rules alone.",
        )
    features = [_features(text) for text in (*good, *bad)]
    labels = np.array([1.0] * len(good) + [0.0] * len(bad))
    folds = _folds(labels, seed)
    right: list[npt.NDArray[np.bool_]] = []
    for fold in range(_FOLDS):
        learnt = [f for f, of in zip(features, folds, strict=True) if of != fold]
        weights, bias = _fit(learnt, labels[folds != fold])
        unseen = [f for f, of in zip(features, folds, strict=True) if of == fold]
        guesses = np.array([weights[places] @ values + bias > 0 for places, values in unseen])
        right.append(np.stack((guesses == (labels[folds == fold] > 0), labels[folds == fold] > 0)))
    correct, is_good = np.concatenate(right, axis=1)
    accuracy = (correct[is_good].mean() + correct[~is_good].mean()) / 2
    weights, bias = _fit(features, labels)
    return Classifier(weights, bias, float(accuracy), len(good), len(bad))


def _folds(labels: Floats, seed: int) -> Places:
    """As many of each kind in each fold as can be."""
    random = np.random.default_rng(seed)
    folds = np.empty(len(labels), np.int64)
    for kind in (0.0, 1.0):
        members = np.flatnonzero(labels == kind)
        folds[members] = random.permutation(np.arange(members.size) % _FOLDS)
    return folds


def _features(text: str) -> tuple[Places, Floats]:
    """Places in the table and their values, of length one together."""
    said = f" {normalized(text[:_MOST_CHARACTERS])} "
    runs = {said[i : i + n] for n in _RUNS for i in range(max(0, len(said) - n + 1))}
    places = np.array(sorted({crc32(run.encode("utf-8", "replace")) & ((1 << _BITS) - 1) for run in runs}), np.int64)
    return places, np.full(places.size, 1 / np.sqrt(max(1, places.size)))


def _fit(features: Sequence[tuple[Places, Floats]], labels: Floats) -> tuple[Floats, float]:
    """Full gradient steps; both kinds weigh the same, however many there are of each."""
    places = np.concatenate([f[0] for f in features])
    values = np.concatenate([f[1] for f in features])
    rows = np.repeat(np.arange(len(features)), [f[0].size for f in features])
    weights, bias = np.zeros(1 << _BITS), 0.0
    balance = np.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    for _ in range(_STEPS):
        scores = np.asarray(np.bincount(rows, weights[places] * values, len(features)) + bias, np.float64)
        errors = (_sigmoid(scores) - labels) * balance
        slope = np.bincount(places, errors[rows] * values, 1 << _BITS)
        weights -= _RATE * (slope + _DECAY * weights)
        bias -= _RATE * float(errors.sum())
    return weights, bias


def _sigmoid(scores: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))))
