"""Questions with four answers to choose from, after five examples: items/s, shared and each answer on its own.

    python benchmarks/scoring.py MODEL.gguf [--rounds N] [--threads N]

"shared" is ``score_many``. "separate" scores each answer as a sequence that has nothing in common with any other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from random import Random
from typing import Any

from madang.core import Request
from madang.native import NativeEngine
from own_engine import DATA, open_engine, options_of, results, spread

N_EXAMPLES = 5
SHARED_ITEMS, SEPARATE_ITEMS = 40, 4
OPTIONS = (" A", " B", " C", " D")

_numbers = itertools.count()


def items() -> tuple[str, list[str]]:
    """The head of five examples, and questions to put after it."""
    lines = (DATA / "english" / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [_question(json.loads(line), Random(number)) for number, line in enumerate(lines[:200])]
    head = "Answer with one letter.\n\n" + "\n\n".join(text + answer for text, answer in questions[:N_EXAMPLES])
    return head, [text for text, _ in questions[N_EXAMPLES:]]


def _question(problem: dict[str, str], chance: Random) -> tuple[str, str]:
    right = int(problem["answer"].rsplit("####", 1)[1].strip().replace(",", ""))
    numbers = [right, *(right + delta for delta in chance.sample(range(1, 30), 3))]
    chance.shuffle(numbers)
    choices = "\n".join(f"{'ABCD'[i]}. {number}" for i, number in enumerate(numbers))
    return f"{problem['question']}\n{choices}\nAnswer:", OPTIONS[numbers.index(right)]


def shared(engine: NativeEngine, head: str, questions: Sequence[str]) -> float:
    """Items/s with everything shared; a number before the head keeps rounds apart."""
    number = next(_numbers)
    requests: Iterator[tuple[Request, Sequence[str]]] = (
        (Request(prompt=f"{number}. {head}\n\n{question}"), OPTIONS) for question in questions
    )
    started = time.perf_counter()
    n_items = sum(1 for _ in engine.score_many(requests))
    return n_items / (time.perf_counter() - started)


def separate(engine: NativeEngine, head: str, questions: Sequence[str]) -> float:
    """Items/s with nothing shared: a number of its own stands before each answer's sequence."""
    requests: Iterator[tuple[Request, Sequence[str]]] = (
        (Request(prompt=f"{next(_numbers)}. {head}\n\n{question}"), (option,))
        for question in questions
        for option in OPTIONS
    )
    started = time.perf_counter()
    n_answers = sum(1 for _ in engine.score_many(requests))
    return n_answers / len(OPTIONS) / (time.perf_counter() - started)


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Both ways in turn."""
    head, questions = items()
    rates: dict[str, list[float]] = {"shared": [], "separate": []}
    with closing(open_engine(options, context=4096)) as engine:
        document["head_tokens"] = len(engine.tokenize(head))
        document["question_tokens"] = spread(len(engine.tokenize(question)) for question in questions)
        shared(engine, head, questions[:2])  # warm
        for _ in range(options.rounds):
            rates["shared"].append(shared(engine, head, questions[:SHARED_ITEMS]))
            rates["separate"].append(separate(engine, head, questions[:SEPARATE_ITEMS]))
    document["items_per_s"] = {way: spread(found) for way, found in rates.items()}


def show(document: dict[str, Any]) -> None:
    """The medians and their ratio."""
    ours, theirs = (document["items_per_s"][way]["median"] for way in ("shared", "separate"))
    tokens = f"head of {document['head_tokens']} tokens, questions of {document['question_tokens']['median']:.0f}"
    print(f"{ours:.2f} items/s shared, {theirs:.2f} each answer on its own: {ours / theirs:.1f} times ({tokens})")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    options = options_of("scoring", arguments, __doc__ or "")
    with results(options) as document:
        measure(options, document)
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
