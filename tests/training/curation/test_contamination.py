"""What a model will be measured on is found, also inside of something else."""

from __future__ import annotations

import pytest

from madang.core.messages import Message
from madang.training.curation.contamination import EvaluationSets
from madang.training.examples import Example

ITEM = (
    "Janet's ducks lay sixteen eggs per day. She eats three for breakfast every morning and bakes muffins for her"
    " friends every day with four."
)
KOREAN = "다음 문장이 참인지 거짓인지 고르시오. 조선의 네 번째 임금은 세종대왕이며 훈민정음을 만들었다."


def item(question: str, line: int = 1) -> Example:
    return Example((Message("user", question), Message("assistant", "18")), line=line)


def sets() -> EvaluationSets:
    return EvaluationSets([("gsm8k", [item(ITEM, 7), item("What is 2+2?", 8)]), ("kobest", [item(KOREAN, 3)])])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"Here is a puzzle. {ITEM.upper()} What is left?", ("gsm8k", 7)),
        (ITEM.replace(".", " ,"), ("gsm8k", 7)),
        (f"제목: {KOREAN.replace(' ', '')} 끝", ("kobest", 3)),
        ("Janet's ducks lay sixteen eggs per day.", None),
        ("What is 2+2?", None),  # too short to be anyone's
        ("조선의 네 번째 임금은 누구인가요?", None),
        (
            "Something else entirely, about the weather of last summer in the mountains of the north.",
            None,
        ),
    ],
)
def test_what_is_found(text: str, found: tuple[str, int] | None) -> None:
    result = sets().find(Example(text=text))
    assert (None if result is None else (result.set_name, result.line)) == found


def test_a_short_item_is_found_whole() -> None:
    known = EvaluationSets([("short", [item("Which planet is the largest one?", 4)])])
    assert known.find(item("which planet is the largest one")) is not None
    assert known.find(item("Which planet is the largest one of all that we know?")) is None


def test_the_report() -> None:
    known = sets()
    for example in (Example(text=ITEM, line=1), Example(text=f"x {ITEM} y", line=2), Example(text="nothing", line=3)):
        known.find(example)
    report = known.to_dict()
    assert (report["examples"], report["contaminated"]) == (3, 2)
    assert report["sets"][0] == {"name": "gsm8k", "items": 2, "too_short": 1, "found": 1, "found_whole": 1}
    assert report["sets"][1]["found"] == 0
    assert [shown["line"] for shown in report["examples_of"]] == [1, 2]
