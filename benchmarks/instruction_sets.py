"""How fast a model runs with each instruction set that this machine has, and with the best one at ``--precision fast``.

    python benchmarks/instruction_sets.py MODEL.gguf [--rounds N] [--threads N]

What ``MADANG_ISA=... madang bench`` measures: bare steps that read a prompt of random tokens and decode after it. Each
round gives every way one turn, beginning with another one; a way is loaded anew each time, and warmed up first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from madang import _core
from own_engine import open_engine, options_of, results, spread

SPARE_TOKENS = 32  # of the context
WARM_UP_SHARE = 4  # of the prompt and the decoded tokens, one part of so many


class Way(NamedTuple):
    """One way to run a model."""

    isa: str
    precision: str = "exact"

    def __str__(self) -> str:
        return self.isa if self.precision == "exact" else f"{self.isa}, --precision {self.precision}"


def ways() -> list[Way]:
    """Every instruction set, best first, then the best one at less precision."""
    isas = _core.available_isas()
    return [*map(Way, isas), Way(isas[0], "fast")]


def rates(options: argparse.Namespace, way: Way) -> tuple[float, float]:
    """Tokens/s of prompt and decode: medians of the repetitions."""
    n_prompt, n_decode = options.prompt_tokens, options.decode_tokens
    context = n_prompt + n_decode + SPARE_TOKENS
    with closing(open_engine(options, context=context, isa=way.isa, precision=way.precision)) as engine:
        engine.benchmark(n_prompt // WARM_UP_SHARE, n_decode // WARM_UP_SHARE)
        seconds = [engine.benchmark(n_prompt, n_decode) for _ in range(options.repetitions)]
    return (
        statistics.median(n_prompt / prompt_s for prompt_s, _ in seconds),
        statistics.median(n_decode / decode_s for _, decode_s in seconds),
    )


def measure(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """All ways in turn."""
    order = ways()
    found: dict[Way, list[tuple[float, float]]] = {way: [] for way in order}
    for number in range(options.rounds):
        first = number % len(order)
        for way in order[first:] + order[:first]:
            found[way].append(rates(options, way))
    document["workload"] = {name: getattr(options, name) for name in ("prompt_tokens", "decode_tokens", "repetitions")}
    document["tokens_per_s"] = {
        str(way): {
            "prompt": spread(prompt for prompt, _ in rounds),
            "decode": spread(decode for _, decode in rounds),
        }
        for way, rounds in found.items()
    }


def show(document: dict[str, Any]) -> None:
    """The medians, as the table of the README."""
    figures = document["tokens_per_s"]
    print(f"| {document['model']['name']} | {' | '.join(figures)} |")
    print(f"|---|{'---:|' * len(figures)}")
    for phase in ("prompt", "decode"):
        medians = " | ".join(f"{found[phase]['median']:,.0f}" for found in figures.values())
        print(f"| {phase} of {document['workload'][f'{phase}_tokens']}, tok/s | {medians} |")


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write."""
    numbers = {"prompt_tokens": 512, "decode_tokens": 128, "repetitions": 3}
    options = options_of("instruction_sets", arguments, __doc__ or "", name="isa", **numbers)
    with results(options) as document:
        measure(options, document)
        show(document)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
