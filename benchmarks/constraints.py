"""What holding an answer to a form costs per token, beside a free answer of as many tokens.

    python benchmarks/constraints.py MODEL.gguf [--rounds N] [--threads N]

Both in turn, with the same seeds, nothing guessed ahead (what a form forces to come is no guess). The free answer is a
story, which goes on for as long as is needed: a token costs the more, the more stand before it. Every constrained
answer that ended by itself has to be JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from madang.core import Completion, Constraint, JsonSchema, Message, Regex, Request, SamplingParams, collect
from madang.native import NativeEngine
from own_engine import open_engine, options_of, results, spread

ANSWER_TOKENS = 160
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "maxLength": 40},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
FORMS: dict[str, Constraint] = {
    "json schema": JsonSchema(
        {
            "type": "object",
            "properties": {"people": {"type": "array", "minItems": 8, "maxItems": 30, "items": PERSON}},
            "required": ["people"],
            "additionalProperties": False,
        }
    ),
    "any json object": JsonSchema({"type": "object"}),
    "regex": Regex(r"([A-Z][a-z]+, [0-9]{1,3}, [A-Z][a-z]+\n)+"),
}


LIST = "List twenty people of a village with name, age and city, as JSON."
STORY = "Write a long story about twenty people of a village, with name, age and city."


def answer(engine: NativeEngine, question: str, seed: int, n_tokens: int, form: Constraint | None = None) -> Completion:
    """One answer of up to so many tokens, sampled."""
    sampling = SamplingParams(temperature=0.7, seed=seed)
    messages = (Message("user", question),)
    request = Request(messages=messages, constraint=form, max_tokens=n_tokens, sampling=sampling)
    completion = collect(engine.generate(request))
    if isinstance(form, JsonSchema) and completion.done.finish_reason == "stop":
        json.loads(completion.text)
    return completion


def token_ms(completion: Completion) -> float:
    """Milliseconds per token after the first."""
    timings = completion.done.timings
    return 1000 * timings.decode_s / max(timings.decode_tokens, 1)


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Each form beside no form."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMS}
    with closing(open_engine(options, speculation="off")) as engine:
        for name, form in FORMS.items():
            document.setdefault("first_answer_ms", {})[name] = token_ms(answer(engine, LIST, 0, ANSWER_TOKENS, form))
        for seed in range(4 * options.rounds):
            for name, form in FORMS.items():
                held = answer(engine, LIST, seed, ANSWER_TOKENS, form)
                free = answer(engine, STORY, seed, held.done.usage.completion_tokens)
                times[name].append((token_ms(held), token_ms(free)))
    document["ms_per_token"] = {name: spread(held for held, _ in found) for name, found in times.items()}
    document["free_ms_per_token"] = {name: spread(free for _, free in found) for name, found in times.items()}
    document["over_free"] = {name: spread(held / free for held, free in found) for name, found in times.items()}


def show(document: dict[str, Any]) -> None:
    """Medians, and the ratio of neighbours."""
    for name, ratio in document["over_free"].items():
        print(f"{name}: {document['ms_per_token'][name]['median']:.2f} ms a token, {ratio['median']:.3f} of free")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    options = options_of("constraints", arguments, __doc__ or "")
    with results(options) as document:
        measure(options, document)
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
