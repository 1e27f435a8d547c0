"""How soon an answer from documents begins: the first question about them, and a second one.

python benchmarks/second_question.py MODEL.gguf [--rounds N] [--threads N] [--passages N]

The passages are the first of chapter 4 of the Korean Rust book, cut as for the starter's embedding model. Each round
changes the first one a little, so that nothing of an earlier round is in the cache.

first     seconds to the first token when nothing of the passages is known
second    the same for another question about the same passages
other     the same for a question that finds the passages in another order of scores
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

from madang.core import Message, Request
from madang.native import NativeEngine
from madang.rag.chunking import split
from madang.rag.embedding import CHUNK_TOKENS, estimate_tokens
from madang.rag.grounding import Passage, ground
from madang.rag.parsing import parse_document
from own_engine import DATA, GREEDY, done_of, open_engine, options_of, results, spread

QUESTIONS = ("소유권 규칙은 무엇인가요?", "String 타입은 언제 메모리를 돌려주나요?", "What is a move?")


def passages(most: int, round_: int) -> list[Passage]:
    """As a search would have found them."""
    name = "ch04-01-what-is-ownership.md"
    document = parse_document(name, DATA / "korean" / "rust_book" / name)
    chunks = split(document, estimate_tokens, budget_tokens=CHUNK_TOKENS)[:most]
    made = [
        Passage(
            collection="book",
            document=name,
            title=document.title,
            text=chunk.text,
            start=chunk.start,
            end=chunk.end,
            headings=chunk.headings,
        )
        for chunk in chunks
    ]
    return [replace(made[0], text=f"{round_}판. {made[0].text}"), *made[1:]]


def first_token_s(engine: NativeEngine, found: Sequence[Passage], question: str) -> tuple[float, int, int]:
    """Seconds, tokens of the prompt, and how many of them were in the cache."""
    request = Request(messages=(Message("user", question),), max_tokens=1, sampling=GREEDY)
    done = done_of(engine.generate(ground(engine, request, found, "ko").request))
    return done.timings.time_to_first_token_s, done.usage.prompt_tokens, done.usage.cached_tokens


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and keep the figures."""
    options = options_of("second_question", arguments, __doc__ or "", passages=6)
    with results(options) as document:
        engine = open_engine(options)
        told: dict[str, list[float]] = {"first_s": [], "second_s": [], "other_s": []}
        for round_ in range(options.rounds):
            found = passages(options.passages, round_)
            for kind, question, order in zip(told, QUESTIONS, (found, found, found[::-1]), strict=True):
                seconds, n_prompt, n_cached = first_token_s(engine, order, question)
                told[kind].append(seconds)
                print(f"round {round_}: {kind} {seconds:.3f} ({n_prompt} tokens, {n_cached} cached)", file=sys.stderr)
        engine.close()
        times_faster = statistics.median(told["first_s"]) / statistics.median(told["second_s"])
        document |= {kind: spread(values) for kind, values in told.items()} | {"times_faster": times_faster}
        print(f"the second question begins {times_faster:.1f} times as soon as the first")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
