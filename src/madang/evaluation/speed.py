"""How fast a loaded model reads prompts and answers; the same for ``bench`` and ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from madang.core import Benchmarkable, Engine, Request, SamplingParams, TokenCounter, collect
from madang.core.errors import EngineError
from madang.core.units import per_second

WORD = " word"
SPARE_TOKENS = 32  # of a context, for what a tokenizer adds


class SpeedRun(NamedTuple):
    """Tokens and seconds of one run; the first token counts as a part of the prompt."""

    prompt_tokens: int
    prompt_s: float
    decode_tokens: int
    decode_s: float
    first_token_s: float | None


def run_bare_steps(engine: Benchmarkable, prompt_tokens: int, decode_tokens: int) -> SpeedRun:
    """Forward steps without sampling or text: the prompt from an empty cache, then the tokens that follow it."""
    prompt_s, decode_s = engine.benchmark(prompt_tokens, decode_tokens)
    return SpeedRun(prompt_tokens, prompt_s, decode_tokens, decode_s, None)


def run_answer(engine: Engine, prompt_tokens: int, decode_tokens: int, number: int) -> SpeedRun:
    """What a request measures itself: the tokens that were read and generated, which may be fewer than asked for.

    No two runs of different ``number`` share a beginning in a cache.
    """
    request = Request(
        prompt=_prompt(engine, prompt_tokens, number),
        sampling=SamplingParams(temperature=0),
        max_tokens=decode_tokens + 1,  # the first token belongs to the prompt
    )
    timings = collect(engine.generate(request)).done.timings
    return SpeedRun(
        timings.prompt_tokens_read,
        timings.prompt_s,
        timings.decode_tokens,
        timings.decode_s,
        timings.time_to_first_token_s,
    )


def _prompt(engine: Engine, n_tokens: int, number: int) -> str:
    """Text of about so many tokens."""
    n_words = n_tokens
    if isinstance(engine, TokenCounter):
        n_words = n_tokens * n_words // engine.count_tokens(Request(prompt=WORD * n_words))
    return f"{number}{WORD * max(1, n_words - 1)}"


def summarize(runs: Sequence[SpeedRun]) -> dict[str, Any]:
    """``prompt`` and ``decode`` rates and the time to the first token: medians, and the spread of the runs.

    Raises EngineError when no time was measured.
    """
    firsts = [run.first_token_s for run in runs if run.first_token_s is not None]
    return {
        "prompt": _rate([(run.prompt_tokens, run.prompt_s) for run in runs]),
        "decode": _rate([(run.decode_tokens, run.decode_s) for run in runs]),
        "time_to_first_token_s": _spread(firsts) if firsts else None,
    }


def _rate(runs: Sequence[tuple[int, float]]) -> dict[str, Any]:
    rates = [rate for tokens, seconds in runs if (rate := per_second(tokens, seconds)) is not None]
    if not rates:
        raise EngineError("The engine measured no time at all, so there is no rate to report.")
    return {"tokens": runs[-1][0], "tokens_per_s": _spread(rates)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def ranges_overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two spreads share values, so that a difference of the medians may be chance."""
    return one["min"] <= other["max"] and other["min"] <= one["max"]
