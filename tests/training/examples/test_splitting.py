"""What is measured on was not learnt, also not in other words."""

from __future__ import annotations

import pytest

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.training.examples import Example, split


def example(question: str, answer: str = "yes", line: int = 0) -> Example:
    return Example((Message("user", question), Message("assistant", answer)), line=line)


WORDS = ["river", "mountain", "window", "summer", "teacher", "garden", "market", "engine", "planet", "violin"]
MANY = [example(f"Why is the {a} of the {b} so {i}?", line=i) for i, a in enumerate(WORDS) for b in WORDS]


def test_the_share_and_the_seed() -> None:
    made = split(MANY, 0.2, seed=3)
    assert len(made.validation) == pytest.approx(20, abs=5)
    assert sorted([*made.train, *made.validation], key=MANY.index) == MANY
    assert split(MANY, 0.2, seed=3) == made != split(MANY, 0.2, seed=4)


def test_nearly_the_same_questions_stay_together() -> None:
    base = "Why does the moon look larger when it stands near the horizon"
    variants = [base, base.upper() + "?!", base + " tonight", base.replace("larger", "bigger")]
    rows = [*MANY, *(example(text, f"answer {i}") for i, text in enumerate(variants))]
    for seed in range(20):
        made = split(rows, 0.3, seed)
        aside = [row for row in made.validation if row.question in variants]
        assert len(aside) in (0, len(variants))


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_shares_that_make_no_sense(share: float) -> None:
    with pytest.raises(InvalidRequest, match="validation share"):
        split(MANY, share)


def test_no_share_and_no_difference() -> None:
    assert split(MANY, 0.0).validation == []
    with pytest.raises(InvalidRequest, match="nearly the same"):
        split([example("hello there"), example("Hello, there!")], 0.5)
