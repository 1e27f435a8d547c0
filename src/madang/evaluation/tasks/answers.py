"""Tasks that a model answers in words: TriviaQA and KorQuAD, GSM8K, exact answers and keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from madang.core import Message, Request, SamplingParams
from madang.core.errors import InvalidRequest
from madang.evaluation.questions import ANSWER_TOKENS, Question
from madang.evaluation.tasks.normal import is_same_answer, overlap_f1
from madang.evaluation.tasks.rows import field_of, text_of
from madang.evaluation.tasks.task import Figure, Graded, Item, Prompt, Response, Row, RowTask, Task, mean_figure

# Always the likeliest token: what a model's file suggests for chats would make figures of two files incomparable.
GREEDY: Final = SamplingParams(temperature=0, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)

_NUMBER: Final = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_MARKED: Final = re.compile(r"#### (-?[0-9.,]+)")


def raw_request(text: str, max_tokens: int, stop: Sequence[str] = ()) -> Request:
    """A text to go on with."""
    return Request(prompt=text, sampling=GREEDY, max_tokens=max_tokens, stop=tuple(stop))


def chat_request(text: str, max_tokens: int) -> Request:
    """A question in the model's own chat form."""
    return Request(messages=(Message("user", text),), sampling=GREEDY, max_tokens=max_tokens, reasoning=False)


class QuestionAnswering(RowTask):
    """TriviaQA (Joshi et al. 2017), KorQuAD and SQuAD: a short answer, of which several may be right.

    Reads question and answer {value, aliases}, answers {text} or answer; with a context where there is one. Files of
    SQuAD's form (data → paragraphs → qas) are taken apart.
    """

    metric: str = "exact_match"
    _TOKENS: ClassVar[int] = 32

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(str(number), row) for number, row in enumerate(_questions(self._rows()))]

    def prompt(self, item: Item) -> Prompt:
        """Passage, question, "Answer:"; in Korean where the question is."""
        shots = self._shots
        solved = [f"{_asked(row)} {_right_answers(row)[0]}{shots.separator}" for row in _questions(shots.rows)]
        text = shots.description + "".join(solved) + _asked(item.row)
        return Prompt(raw_request(text, self._TOKENS, ("\n",)))

    def score(self, item: Item, response: Response) -> float:
        """Whether it is one of the right answers."""
        return float(any(is_same_answer(self.said(item, response), right) for right in _right_answers(item.row)))

    def said(self, item: Item, response: Response) -> str:
        """The first line."""
        return response.text.strip().split("\n", 1)[0].strip()

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        """F1 against the nearest of the right answers."""
        found = [
            max(overlap_f1(self.said(own.item, own.response), right) for right in _right_answers(own.item.row))
            for own in graded
        ]
        return {"f1": mean_figure(found)}


def _questions(rows: Sequence[Row]) -> list[Row]:
    if not rows or "paragraphs" not in rows[0]:
        return list(rows)
    return [
        {**question, "context": paragraph["context"]}
        for article in rows
        for paragraph in field_of(article, "paragraphs")
        for question in field_of(paragraph, "qas")
    ]


def _asked(row: Row) -> str:
    question, context = text_of(row, "question", "Question").strip(), row.get("context")
    is_korean = any("가" <= c <= "힣" for c in question)
    passage = "" if not context else f"{str(context).strip()}\n"
    return f"{passage}질문: {question}\n답:" if is_korean else f"{passage}Question: {question}\nAnswer:"


def _right_answers(row: Row) -> list[str]:
    found: Any = field_of(row, "answers", "answer", "Answer")
    if isinstance(found, dict):
        texts = found.get("text") or [
            found.get("value", found.get("Value")),
            *(found.get("aliases") or found.get("Aliases") or ()),
        ]
    else:
        texts = found if isinstance(found, list) else [found]
    texts = [text["text"] if isinstance(text, dict) else text for text in texts]
    right = [str(text) for text in texts if text is not None and str(text).strip()]
    if not right:
        raise InvalidRequest("A row has no answer.", param="data")
    return right


class GSM8K(RowTask):
    """Cobbe et al. 2021, arXiv:2110.14168: word problems. Right when the last number said is the answer.

    ``exact_match_marked`` counts only numbers after "####", as the data writes them and as examples show.
    """

    metric: str = "exact_match"
    _TOKENS: ClassVar[int] = 256
    _STOP: ClassVar[tuple[str, ...]] = ("Question:", "</s>", "<|im_end|>")

    def prompt(self, item: Item) -> Prompt:
        """ "Question: … Answer:" """
        solved = [f"{_problem(row)} {text_of(row, 'answer')}\n\n" for row in self._shots.rows]
        return Prompt(raw_request("".join(solved) + _problem(item.row), self._TOKENS, self._STOP))

    def score(self, item: Item, response: Response) -> float:
        """Whether the last number is the right one."""
        return float(self.said(item, response) == _right_number(item.row))

    def said(self, item: Item, response: Response) -> str:
        """The last number, without signs of currency and thousands."""
        found = _NUMBER.findall(response.text)
        return _bare(found[-1]) if found else ""

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        """See the class."""
        marked = [_MARKED.search(own.response.text) for own in graded]
        right = [_right_number(own.item.row) for own in graded]
        hits = [float(m is not None and _bare(m[1]) == r) for m, r in zip(marked, right, strict=True)]
        return {"exact_match_marked": mean_figure(hits)}


def _problem(row: Row) -> str:
    return f"Question: {text_of(row, 'question')}\nAnswer:"


def _right_number(row: Row) -> str:
    match = _MARKED.search(text_of(row, "answer"))
    if match is None:
        raise InvalidRequest("A row's answer has no number after '####'.", param="data")
    return _bare(match[1])


def _bare(number: str) -> str:
    return number.replace(",", "").replace("$", "").removesuffix(".")


class Questions(Task):
    """Questions of one's own, with keywords or an exact answer (questions.py), asked in the model's chat form."""

    def __init__(self, name: str, questions: Sequence[Question]) -> None:
        super().__init__(name)
        self._questions = questions

    metric: str = "score"

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(str(number), {"question": own}) for number, own in enumerate(self._questions)]

    def prompt(self, item: Item) -> Prompt:
        """The question as it is."""
        return Prompt(chat_request(item.row["question"].prompt, ANSWER_TOKENS))

    def score(self, item: Item, response: Response) -> float:
        """The share of keywords, or whether it is the answer."""
        question: Question = item.row["question"]
        return question.score(response.text)
