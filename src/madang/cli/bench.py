"""``madang bench``: how fast models read prompts and generate, on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.core.units import format_duration

if TYPE_CHECKING:
    from madang.core.engine import Engine
    from madang.core.settings import Settings
    from madang.evaluation.contestants import Contestant
    from madang.evaluation.speed import SpeedRun

Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Models, each with @ENGINE behind it if it is to be that one.")
]


def bench(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    models: Models,
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

    Prints the median of several runs and their spread; generation continues from the prompt. Several models are
    measured one after the other, each in a process of its own, by the requests that they answer.
    """
    from madang.evaluation.contestants import parse_contestants
    from madang.evaluation.speed import SPARE_TOKENS

    context = prompt_tokens + decode_tokens + SPARE_TOKENS
    settings = options.settings_of(
        ctx, threads=threads, engine=engine, context=context, precision=precision, kv_type=kv_type
    )
    contestants = parse_contestants(models, settings.engine)
    if len(contestants) > 1:
        _bench_several(contestants, settings, (prompt_tokens, decode_tokens, repetitions), as_json=as_json)
        return
    own = contestants[0]
    if own.engine != settings.engine:
        settings = options.settings_of(
            ctx, threads=threads, engine=own.engine, context=context, precision=precision, kv_type=kv_type
        )
    document = _bench_one(own.reference, settings, prompt_tokens, decode_tokens, repetitions)
    if as_json:
        data_json(document)
    else:
        _print(document, repetitions)


def _bench_one(model: str, settings: Settings, prompt_tokens: int, decode_tokens: int, runs: int) -> dict[str, Any]:
    from madang.cli.pull import fetcher
    from madang.evaluation.speed import summarize
    from madang.runtime import open_model

    with closing(open_model(model, settings, fetch=fetcher(settings))) as loaded:
        found = [_run(loaded, prompt_tokens, decode_tokens, number) for number in range(runs + 1)][1:]
        return {
            "model": loaded.info.model,
            "engine": loaded.info.engine,
            "threads": getattr(loaded, "threads", None),
            "isa": getattr(loaded, "isa", None),
            **summarize(found),
        }


def _run(engine: Engine, prompt_tokens: int, decode_tokens: int, number: int) -> SpeedRun:
    """Bare steps of an engine that can time them, else a whole answer."""
    from madang.core.engine import Benchmarkable
    from madang.evaluation.speed import run_answer, run_bare_steps

    if isinstance(engine, Benchmarkable):
        return run_bare_steps(engine, prompt_tokens, decode_tokens)
    return run_answer(engine, prompt_tokens, decode_tokens, number)


def _bench_several(
    contestants: Sequence[Contestant], settings: Settings, sizes: tuple[int, int, int], *, as_json: bool
) -> None:
    """All by whole answers, so that no engine is timed by less than another."""
    from madang.cli.pull import fetcher
    from madang.cli.sizing import Teller
    from madang.evaluation import ComparisonPlan, compare, enter

    prompt_tokens, decode_tokens, repetitions = sizes
    plan = ComparisonPlan(prompt_tokens=prompt_tokens, decode_tokens=decode_tokens, n_runs=repetitions)
    entrants = enter(contestants, settings, fetcher(settings))
    found = compare(entrants, settings, plan, keep=False, tell=Teller())["models"]
    if as_json:
        data_json({"models": [_row_document(model) for model in found]})
        return
    rows = [["MODEL", "ENGINE", "PROMPT T/S", "MIN", "MAX", "DECODE T/S", "MIN", "MAX", "FIRST TOKEN"]]
    rows += [_row(model) for model in found]
    data_table(rows, right=range(2, 9))
    for model in found:
        for problem in (model["failed"], *model["problems"].values()):
            if problem is not None:
                note(f"Note: {model['label']}: {problem}")


def _row_document(model: Mapping[str, Any]) -> dict[str, Any]:
    speed = model["speed"] or {"prompt": None, "decode": None, "time_to_first_token_s": None}
    problem = model["failed"] or next(iter(model["problems"].values()), None)
    return {**{name: model[name] for name in ("model", "engine", "threads")}, **speed, "problem": problem}


def _row(model: Mapping[str, Any]) -> list[str]:
    speed = model["speed"]
    if speed is None:
        return [model["label"], model["engine"] or "-", *["-"] * 7]
    rates = [speed[step]["tokens_per_s"] for step in ("prompt", "decode")]
    first = speed["time_to_first_token_s"]
    return [
        model["label"],
        model["engine"],
        *(f"{rate[key]:.1f}" for rate in rates for key in ("median", "min", "max")),
        "-" if first is None else format_duration(first["median"]),
    ]


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
