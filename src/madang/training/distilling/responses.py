"""A teacher that only talks, whatever engine it has: its answers to questions, as chat JSONL to tune a student on.

One row per question, each with who answered it and how. A file that was broken off goes on behind its last whole row.
Answers that are empty or were cut short are left out and counted: a student would learn to stop in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madang.core.engine import Engine, streaming
from madang.core.errors import InvalidRequest
from madang.core.events import collect
from madang.core.messages import Message
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.core.writing import within_disk
from madang.training.examples import Example


@dataclass(slots=True)
class Answered:
    """What became of the questions; ``resumed`` of them had a row before."""

    written: int = 0
    resumed: int = 0
    empty: int = 0
    cut_short: int = 0


def answer_questions(
    teacher: Engine,
    questions: Sequence[Example],
    target: Path,
    *,
    sampling: SamplingParams | None = None,
    max_tokens: int = 1024,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answered:
    """Append the teacher's answer to every question that ``target`` has no row for yet.

    questions   their turns up to the last one of the user, or their text

    Raises InvalidRequest for a question without one or a file whose rows are of another teacher or of other questions,
    NotEnoughDisk, and what the teacher raises; rows that were written stay.
    """
    asked = [_asked(question) for question in questions]
    sampling = sampling or SamplingParams()
    provenance = {"teacher": teacher.info.model, "engine": teacher.info.engine, "max_tokens": max_tokens}
    done = _done(target, asked, provenance)
    report = Answered(resumed=len(done))
    target.parent.mkdir(parents=True, exist_ok=True)
    with within_disk(target.parent), target.open("a", encoding="utf-8") as file:
        for number, (question, messages) in enumerate(zip(questions, asked, strict=True)):
            if number in done:
                continue
            request = Request(messages=messages, max_tokens=max_tokens, sampling=sampling)
            with streaming(teacher, request) as events:
                answer = collect(events)
            if _count(report, answer.text, answer.done.finish_reason):
                origin = {"question": number, "source": question.source, "line": question.line}
                row: dict[str, Any] = {"messages": _rows(messages, answer.text), "provenance": {**provenance, **origin}}
                row["provenance"] |= {"seed": answer.done.seed}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
            progress(number + 1, len(questions))
    return report


def _asked(question: Example) -> tuple[Message, ...]:
    if question.text is not None:
        return (Message("user", question.text),)
    last = max((number for number, turn in enumerate(question.messages) if turn.role == "user"), default=None)
    if last is None:
        raise InvalidRequest(f"{question.source}, line {question.line}: nobody asks anything.", param="questions")
    return question.messages[: last + 1]


def _count(report: Answered, text: str, finish_reason: str) -> bool:
    """Whether the answer is good to learn from."""
    if not text.strip():
        report.empty += 1
    elif finish_reason == "length":
        report.cut_short += 1
    else:
        report.written += 1
        return True
    return False


def _rows(messages: Sequence[Message], answer: str | None) -> list[dict[str, str]]:
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]


def _done(target: Path, asked: Sequence[tuple[Message, ...]], provenance: dict[str, Any]) -> set[int]:
    """Numbers of the questions that have a row; a half-written last row is cut off."""
    if not target.exists():
        return set()
    whole, numbers = b"", set()
    for line in target.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        numbers.add(_number(target, line, asked, provenance))
        whole += line
    if len(whole) != target.stat().st_size:
        with target.open("r+b") as file:
            file.truncate(len(whole))
    return numbers


def _number(target: Path, line: bytes, asked: Sequence[tuple[Message, ...]], provenance: dict[str, Any]) -> int:
    try:
        row = json.loads(line)
        known = row["provenance"]
        number = int(known["question"])
        same = {key: known[key] for key in provenance} == provenance
        if same and row["messages"][:-1] == _rows(asked[number], None):
            return number
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    raise InvalidRequest(
        f"{target} has rows of another teacher, or of other questions.",
        param="dst",
        hint="Name another file, or remove it.",
    )
