"""What is dropped is what should be, and says why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest

from madang.core.engine import EngineInfo, Scored
from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.messages import Message
from madang.core.request import Request
from madang.engines.echo import EchoEngine
from madang.training.curation.classifier import train_classifier
from madang.training.curation.filtering import Filter
from madang.training.curation.likelihood import Likelihood
from madang.training.curation.measures import measure
from madang.training.curation.rules import Rules
from madang.training.examples import Example

GOOD = (
    "A lighthouse warns ships of rocks and shallow water. Its lamp turns slowly, so that every captain sees a flash at"
    " a known interval and can tell which tower it is."
)
KOREAN = (
    "등대는 배에게 암초와 얕은 물을 알려 줍니다. 불빛이 일정한 간격으로 돌기 때문에"
    " 선장은 어느 등대인지 알 수 있습니다."
)
WORDS = ["stone", "river", "cloud", "lantern", "bridge", "forest", "harbor", "engine", "planet", "violin"]


def reasons(text: str, rules: Rules = Rules()) -> list[str]:  # noqa: B008
    (judged,) = Filter(rules).judge([Example(text=text)])
    return [reason.rule for reason in judged.reasons]


@pytest.mark.parametrize("text", [GOOD, KOREAN, f"{GOOD}\n\n{KOREAN}"])
def test_good_text_is_kept(text: str) -> None:
    assert reasons(text) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Short.", "too short"),
        ("]}>>|<{[~^ #$%& " * 6 + "abcdefgh", "symbols"),
        ("4711 0815 1234 9876 5555 1111 2222 3333 4444 6666 7777 8888", "digits"),
        ("the same thing over and over " * 10, "repetition"),
        ("Menu here\nSomething else\nMenu here\nMenu here\nMenu here\nand more of it", "repeated lines"),
        (" ".join(f"spam {word}" for word in WORDS * 2), "one word"),
        ("Copyright 2020 Example Corporation, its owners and others. All rights reserved.", "boilerplate"),
        (
            "이 기사의 저작권은 본사에 있습니다. 무단 전재 및 재배포 금지. 문의는 아래 주소로 보내 주시기 바랍니다.",
            "boilerplate",
        ),
    ],
)
def test_bad_text_is_dropped(text: str, rule: str) -> None:
    assert rule in reasons(text)


def test_languages() -> None:
    german = "Der Leuchtturm warnt Schiffe vor Felsen und flachem Wasser, damit jeder Kapitän nachts sicher nach Hause"
    german += " kommt und auch bei dichtem Nebel seinen Weg findet."
    found = {
        language: [reasons(text, Rules(language=language)) for text in (GOOD, KOREAN, german)]
        for language in ("en", "ko")
    }
    assert found == {"en": [[], ["language"], ["language"]], "ko": [["language"], [], ["language"]]}
    with pytest.raises(UnknownOption):
        Rules(language="kr")


def test_answers_may_be_short_and_their_questions_are_not_judged() -> None:
    asked = Message("user", "1111 2222 3333 4444")
    (judged,) = Filter(Rules()).judge([Example((asked, Message("assistant", "네.")))])
    assert judged.reasons == ()


def test_the_report_counts_and_shows() -> None:
    sieve = Filter(Rules())
    list(sieve.judge([Example(text=GOOD, line=1), *(Example(text="no", line=i) for i in range(2, 9))]))
    report = sieve.report.to_dict()
    assert (report["kept"], report["dropped"], report["by_rule"]) == (1, 7, {"too short": 7})
    assert [shown["line"] for shown in report["examples"]["too short"]] == [2, 3, 4]


def test_nothing_at_all_has_measures() -> None:
    assert measure("").characters == 0 and measure("").languages == {"ko": 0.0, "en": 0.0}


class Foreseeing:
    """Finds every answer as likely as it is short; reads texts as bytes, of which all are as likely."""

    info = EngineInfo(engine="foreseeing", model="m", context_tokens=4096)

    def close(self) -> None:
        """Nothing."""

    def score(self, context: Request, continuations: Sequence[str]) -> list[Scored]:
        return [Scored(-math.log(len(text)) * 2, 2, False) for text in continuations]

    def score_many(self, items: Iterable[tuple[Request, Sequence[str]]]) -> Iterator[list[Scored]]:
        return (self.score(context, texts) for context, texts in items)

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def logits(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        for begin in range(0, len(tokens), 7):
            yield np.zeros((len(tokens[begin : begin + 7]), 256), np.float32)


def test_likelihood_decides_in_order() -> None:
    asked = Message("user", "?")
    examples = [Example((asked, Message("assistant", "a" * n)), line=n) for n in (5, 50, 8)]
    sieve = Filter(
        Rules(max_perplexity=20, min_perplexity=6, max_repeated_share=1), likelihood=Likelihood(Foreseeing())
    )
    found = [([r.rule for r in judged.reasons], judged.perplexity) for judged in sieve.judge(examples)]
    assert found == [
        (["predictable"], pytest.approx(5)),
        (["unlikely"], pytest.approx(50)),
        ([], pytest.approx(8)),
    ]
    assert sieve.report.to_dict()["perplexity_quantiles"]["0.5"] == pytest.approx(8)


def test_the_perplexity_of_a_text() -> None:
    (judged,) = Filter(Rules(), likelihood=Likelihood(Foreseeing())).judge([Example(text=GOOD)])
    assert judged.perplexity == pytest.approx(256)


def test_engines_that_cannot_tell_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot tell how likely"):
        Likelihood(EchoEngine())
    with pytest.raises(InvalidRequest, match="needs a model"):
        Filter(Rules(max_perplexity=10))


def test_a_classifier_learns_the_difference_and_says_how_well() -> None:
    random = np.random.default_rng(0)
    good = [f"The {a} is described because the {b} explains the {c}." for a, b, c in random.choice(WORDS, (40, 3))]
    bad = [f"BUY {a} now!!! cheap {b} {c} deal" for a, b, c in random.choice(WORDS, (25, 3))]
    classifier = train_classifier(good, bad)
    assert classifier.accuracy > 0.95
    assert classifier.probability("The planet is described because the bridge explains it.") > 0.5
    assert classifier.probability("BUY planet now!!! cheap bridge deal") < 0.5
    rules = Rules(min_characters=0)
    kept = [not judged.reasons for judged in Filter(rules, classifier=classifier).judge(map(_text, [good[0], bad[0]]))]
    assert kept == [True, False]


def test_labels_without_meaning_are_worth_a_coin() -> None:
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(WORDS, 6)) for _ in range(120)]
    assert train_classifier(texts[:60], texts[60:]).accuracy == pytest.approx(0.5, abs=0.15)


def test_a_handful_of_labels_is_too_few() -> None:
    with pytest.raises(InvalidRequest, match="3 good and 20 bad"):
        train_classifier(["a"] * 3, ["b"] * 20)


def _text(text: str) -> Example:
    return Example(text=text)
