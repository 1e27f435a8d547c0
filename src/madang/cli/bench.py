"""``madang bench``: how fast a model reads prompts and generates, on this machine."""

from __future__ import annotations

from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table
from madang.core.errors import EngineError

if TYPE_CHECKING:
    from madang.core.engine import Engine

WORD = " word"
SPARE_TOKENS = 32  # for what a tokenizer adds


def bench(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    model: options.Model,
    *,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", metavar="N", min=1, max=1_000_000, help="Length of the prompt.")
    ] = 512,
    decode_tokens: Annotated[
        int, typer.Option("--decode-tokens", metavar="N", min=1, max=1_000_000, help="Tokens to generate.")
    ] = 128,
    repetitions: Annotated[
        int, typer.Option("--repetitions", metavar="N", min=1, max=1000, help="Runs, after one that does not count.")
    ] = 5,
    threads: options.Threads = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    kv_type: options.KvType = None,
    as_json: options.Json = False,
) -> None:
    """Measure prompt and generation speed.

    Prints the median of several runs and their spread; generation continues from the prompt.
    """
    from madang.cli.pull import fetcher
    from madang.core.engine import Benchmarkable
    from madang.runtime import open_model

    context = prompt_tokens + decode_tokens + SPARE_TOKENS
    settings = options.settings_of(
        ctx, threads=threads, engine=engine, context=context, precision=precision, kv_type=kv_type
    )
    with closing(open_model(model, settings, fetch=fetcher(settings))) as loaded:
        measure = _bare_steps if isinstance(loaded, Benchmarkable) else _whole_answers
        runs = [measure(loaded, prompt_tokens, decode_tokens, number) for number in range(repetitions + 1)][1:]
        document = _document(loaded, runs)
    if as_json:
        data_json(document)
    else:
        _print(document, repetitions)


class _Run(NamedTuple):
    """Tokens and seconds of one run."""

    prompt_tokens: int
    prompt_s: float
    decode_tokens: int
    decode_s: float


def _bare_steps(engine: Any, prompt_tokens: int, decode_tokens: int, number: int) -> _Run:
    """Forward steps without sampling or text: the prompt from an empty cache, then the tokens that follow it."""
    prompt_s, decode_s = engine.benchmark(prompt_tokens, decode_tokens)
    return _Run(prompt_tokens, prompt_s, decode_tokens, decode_s)


def _whole_answers(engine: Engine, prompt_tokens: int, decode_tokens: int, number: int) -> _Run:
    """What requests measure themselves: the tokens that were read and generated, which may be fewer than asked for."""
    from madang.core import Request, SamplingParams, collect

    request = Request(
        prompt=_prompt(engine, prompt_tokens, number),
        sampling=SamplingParams(temperature=0),
        max_tokens=decode_tokens + 1,  # the first token belongs to the prompt
    )
    timings = collect(engine.generate(request)).done.timings
    return _Run(timings.prompt_tokens_read, timings.prompt_s, timings.decode_tokens, timings.decode_s)


def _prompt(engine: Engine, n_tokens: int, number: int) -> str:
    """Text of about so many tokens; the number comes first, so that no two runs share a beginning in a cache."""
    from madang.core import Request, TokenCounter

    n_words = n_tokens
    if isinstance(engine, TokenCounter):
        n_words = n_tokens * n_words // engine.count_tokens(Request(prompt=WORD * n_words))
    return f"{number}{WORD * max(1, n_words - 1)}"


def _document(engine: Engine, runs: list[_Run]) -> dict[str, Any]:
    return {
        "model": engine.info.model,
        "engine": engine.info.engine,
        "threads": getattr(engine, "threads", None),
        "isa": getattr(engine, "isa", None),
        "prompt": _summary([(run.prompt_tokens, run.prompt_s) for run in runs]),
        "decode": _summary([(run.decode_tokens, run.decode_s) for run in runs]),
    }


def _summary(runs: list[tuple[int, float]]) -> dict[str, Any]:
    rates = [tokens / seconds for tokens, seconds in runs if seconds > 0]
    if not rates:
        raise EngineError("The engine measured no time at all, so there is no rate to report.")
    return {
        "tokens": runs[-1][0],
        "tokens_per_s": {"median": median(rates), "min": min(rates), "max": max(rates)},
    }


def _print(document: dict[str, Any], repetitions: int) -> None:
    facts = [document["model"], f"{document['engine']} engine"]
    if document["threads"] is not None:
        facts += [f"{document['threads']} threads", document["isa"]]
    data(" · ".join([*facts, f"{repetitions} run{'s' if repetitions > 1 else ''}"]))
    rows = [["", "TOKENS", "TOKENS/S", "MIN", "MAX"]]
    for step in ("prompt", "decode"):
        rate = document[step]["tokens_per_s"]
        rows.append([step, str(document[step]["tokens"]), *(f"{rate[key]:.1f}" for key in ("median", "min", "max"))])
    data_table(rows, right=[1, 2, 3, 4])
