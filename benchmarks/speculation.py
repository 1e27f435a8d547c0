"""What guessing tokens from the text gains, on answers that repeat their prompt and on prose.

    python benchmarks/speculation.py MODEL.gguf [--rounds N] [--threads N]

Every request is answered with and without, in turn, by two engines in one process; the texts must be equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from madang.core import Completion, Message, Request, collect
from madang.native import NativeEngine
from own_engine import DATA, GREEDY, article, open_engine, options_of, plain, results

ANSWER_TOKENS = 160
PER_KIND = 4


def chat(text: str) -> Request:
    """One question, answered greedily."""
    return Request(messages=(Message("user", text),), max_tokens=ANSWER_TOKENS, sampling=GREEDY)


def requests() -> dict[str, list[Request]]:
    """The kinds of work, a few requests of each."""
    meetings = (DATA / "english" / "qmsum_val.jsonl").read_text(encoding="utf-8").splitlines()
    problems = (DATA / "english" / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = range(PER_KIND)
    return {
        "rag": [
            chat(f"Passages:\n\n{article(2500, n)}\n\nQuote the sentences that say when and where this happened.")
            for n in numbers
        ],
        "summarise": [chat(f"{_talk(meetings[n])}\n\nSummarize this meeting. Say who said what.") for n in numbers],
        "json": [chat(_records(problems[5 * n : 5 * n + 5])) for n in numbers],
        "prose": [plain(f"{article(300, 50 + n)}", ANSWER_TOKENS) for n in numbers],
        "chat": [chat(question) for question in QUESTIONS],
    }


QUESTIONS = (
    "Write a short story about a lighthouse keeper.",
    "Explain how bread is baked, step by step.",
    "What should I see in Seoul in two days?",
    "Why do leaves change their color in autumn?",
)


def _talk(line: str) -> str:
    turns = json.loads(line)["meeting_transcripts"][:14]
    return "\n".join(f"{turn['speaker']}: {turn['content'][:250]}" for turn in turns)


def _records(lines: Sequence[str]) -> str:
    questions = [json.loads(line)["question"][:180] for line in lines]
    text = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, start=1))
    return f'{text}\n\nWrite each of these as JSON: [{{"number": 1, "question": "..."}}, ...]'


def measure_kind(engines: dict[str, NativeEngine], kind: Sequence[Request], rounds: int) -> dict[str, Any]:
    """Seconds a token with and without guesses, and how many came true."""
    ratios, drafted, accepted, generated = [], 0, 0, 0
    for request in kind:
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        texts = set()
        for _ in range(rounds):
            for name, engine in engines.items():
                completion: Completion = collect(engine.generate(request))
                timings = completion.done.timings
                texts.add(completion.text)
                if timings.decode_tokens:
                    seconds[name].append(timings.decode_s / timings.decode_tokens)
                drafted += timings.drafted_tokens
                accepted += timings.accepted_tokens
                generated += timings.decode_tokens if name == "ngram" else 0
        if len(texts) != 1:
            raise SystemExit("the answers differ with and without guesses: that must never happen")
        if seconds["off"]:
            ratios.append(statistics.median(seconds["off"]) / statistics.median(seconds["ngram"]))
    return {
        "speedup": statistics.median(ratios),
        "speedups": ratios,
        "acceptance": accepted / drafted if drafted else None,
        "accepted_share_of_answer": accepted / generated if generated else None,
    }


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Each kind, with both engines in turn."""
    with (
        closing(open_engine(options, context=4096, speculation="off")) as off,
        closing(open_engine(options, context=4096, speculation="ngram")) as ngram,
    ):
        engines = {"off": off, "ngram": ngram}
        for engine in engines.values():
            collect(engine.generate(chat("Hello")))  # warm
        for kind, asked in requests().items():
            found = document.setdefault("kinds", {})[kind] = measure_kind(engines, asked, options.rounds)
            share, acceptance = (found[key] or 0.0 for key in ("accepted_share_of_answer", "acceptance"))
            print(f"{kind}: {found['speedup']:.2f} times as fast; {acceptance:.0%} of guesses came true, ", end="")
            print(f"{share:.0%} of the answer was guessed; each {', '.join(f'{r:.2f}' for r in found['speedups'])}")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    options = options_of("speculation", arguments, __doc__ or "")
    with results(options) as document:
        measure(options, document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
