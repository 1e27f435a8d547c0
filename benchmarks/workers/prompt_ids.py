"""The token ids that every worker reads as its prompt, and the options every worker takes.

Ids are drawn from a seeded generator, so all engines compute the same prompt. Each repetition has its own prompt:
an engine that keeps a prefix cache would otherwise answer the second repetition without computing it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from typing import Any

# Ids below this are control tokens in the vocabularies measured here; an engine may treat those in a special way.
FIRST_ORDINARY_ID = 64
WARM_UP_REPETITION = 0


def prompt_token_ids(n_tokens: int, repetition: int, vocabulary_tokens: int) -> list[int]:
    """Return `n_tokens` ids in [FIRST_ORDINARY_ID, vocabulary_tokens), the same ones on every call and machine."""
    generator = random.Random(repetition)
    return [generator.randrange(FIRST_ORDINARY_ID, vocabulary_tokens) for _ in range(n_tokens)]


def parse_worker_options() -> argparse.Namespace:
    """Read the options that measurement.py passes: model path, token counts, repetitions, threads, variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--decode-tokens", type=int, required=True)
    parser.add_argument("--repetitions", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", default="", help="what distinguishes two peers of one package, e.g. a dtype")
    return parser.parse_args()


def answer(measure: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
    """Print what `measure` returns, or why it failed, as one JSON line: the worker's last line on stdout."""
    options = parse_worker_options()
    try:
        result = measure(options)
    except Exception as error:  # whatever a peer raises becomes a reason in the table
        result = {"reason": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(result), flush=True)
