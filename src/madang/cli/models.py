"""``madang models``: find a model by words, or by what it is for and what it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data_json, data_table, note
from madang.cli.list import CATALOG_HEADER, catalog_document, catalog_row
from madang.cli.measuring import measured_bandwidth
from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from madang.hardware import Machine
    from madang.runtime.recommending import Answer, Recommendation, Wish
    from madang.runtime.sizing import Speed as Predicted

UNKNOWN = "unknown"

Words = Annotated[list[str], typer.Argument(metavar="WORDS", help="Of names, tasks, licences, languages: korean mit.")]
Task = Annotated[
    str,
    typer.Option("--task", metavar="WORD", help="general, coding, math, korean, rag, summarize, embedding or rerank."),
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="Most memory, all told: 8GB. Unset: what is free now.")
]
License = Annotated[
    str,
    typer.Option("--license", metavar="WORD", help="commercial, unconditional, any, or the name of a licence."),
]
Language = Annotated[str | None, typer.Option("--language", metavar="CODE", help="One that it has to speak: ko, en.")]
Speed = Annotated[float | None, typer.Option("--speed", metavar="N", help="Least tokens per second, as predicted.")]
Context = Annotated[
    int | None, typer.Option("--context", metavar="TOKENS", help="Context that has to fit. Unset: what the task needs.")
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type", metavar="NAME", help="This type only: Q4_K_M. Unset: the best that fits, of 3 bits or more."
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most models to show.")]


def search(ctx: typer.Context, words: Words, as_json: options.Json = False) -> None:
    """Find models of the catalog whose facts have all these words, English or Korean."""
    from madang.models import Store, load_catalog
    from madang.runtime.recommending import matches

    store = Store(options.settings_of(ctx).home)
    found = [entry for entry in load_catalog().entries.values() if matches(entry, words)]
    rows = [(entry, store.find(entry.reference) is not None) for entry in found]
    if as_json:
        data_json({"models": [catalog_document(*row) for row in rows]})
    elif rows:
        data_table([CATALOG_HEADER, *(catalog_row(*row) for row in rows)], right=[1, 2])
    else:
        note("No model has all of these words. See them all with: madang list --catalog")


def recommend(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    *,
    task: Task = "general",
    memory: Memory = None,
    license: License = "any",
    language: Language = None,
    speed: Speed = None,
    engine: options.Engine = None,
    context: Context = None,
    type_name: Type = None,
    limit: Limit = 10,
    as_json: options.Json = False,
) -> None:
    """Rank the models of the catalog that do what you want on this machine, each with its type, memory and speed."""
    from madang.hardware import probe_machine
    from madang.models import load_catalog
    from madang.runtime.recommending import Wish, checked, find_language, find_task, with_license
    from madang.runtime.recommending import recommend as recommend_of

    home = options.settings_of(ctx).home
    machine = probe_machine(home, gpus=False)
    entries = load_catalog().entries.values()
    wish = Wish(
        task=find_task(task),
        memory_bytes=machine.ram_available_bytes if memory is None else options.n_bytes(memory, "memory"),
        language=None if language is None else find_language(language),
        tokens_per_s=speed,
        engine=engine,
        context_tokens=_positive(context),
        type_name=type_name,
    )
    wish = checked(with_license(wish, license, {entry.license.name for entry in entries if entry.license is not None}))
    predicted, speed_is = _speed(home, machine)
    answer = recommend_of(entries, wish, predicted)
    if as_json:
        data_json({**_document(wish, answer, limit), "speed_is": speed_is})
    else:
        _print(answer, limit, speed_is)


def _positive(context: int | None) -> int | None:
    if context is not None and context < 1:
        raise InvalidRequest(
            f"A context of {context} tokens was asked for, but it has to be 1 or more.", param="context"
        )
    return context


def _speed(home: Path, machine: Machine) -> tuple[Predicted, str]:
    """What predicts speed, and what that is: a forecast where this machine was measured, else what memory allows."""
    from madang.hardware.profile import read_profile
    from madang.runtime.sizing import bandwidth_speed, forecast_speed

    profile = read_profile(home)
    if profile is not None:
        return forecast_speed(profile), f"forecast from what was measured at {profile.measured_at}"
    limit = bandwidth_speed(measured_bandwidth(machine))
    return limit, "the most that memory allows; madang doctor --measure makes it a forecast"


def _print(answer: Answer, limit: int, speed_is: str) -> None:
    from madang.runtime.recommending import RULE

    if answer.found:
        header = ["NAME", "TYPE", "MEMORY", "CONTEXT", "UP TO", "TOKENS/S", "ENGINE", "WHY"]
        data_table([header, *map(_row, answer.found[:limit])], right=[2, 3, 4, 5])
        note(f"\n{RULE}")
        note(f"MEMORY is with a context of CONTEXT tokens; UP TO as many fit. TOKENS/S is {speed_is}.")
        note(f"Get the first with: {' && '.join(answer.found[0].steps)}")
    else:
        note("No model of the catalog does all of that.")
    if answer.left_out:
        note(f"Left out: {_counted(answer.left_out)}.")


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} by {why}" for why, count in left_out.items())


def _row(one: Recommendation) -> list[str]:
    least = "" if one.is_exact else "> "
    return [
        str(one.entry.reference),
        one.type_name,
        least + format_bytes(one.memory_bytes),
        str(one.context_tokens),
        UNKNOWN if one.most_tokens is None else str(one.most_tokens),
        UNKNOWN if one.tokens_per_s is None else f"{one.tokens_per_s:.1f}",
        one.engine,
        "; ".join(one.reasons),
    ]


def _document(wish: Wish, answer: Answer, limit: int) -> dict[str, object]:
    from madang.runtime.recommending import RULE

    return {
        "wish": {
            "task": wish.task,
            "memory_bytes": wish.memory_bytes,
            "commercial": wish.commercial,
            "license": wish.license_name,
            "language": wish.language,
            "tokens_per_s": wish.tokens_per_s,
            "engine": wish.engine,
            "context_tokens": wish.room_tokens,
            "type": wish.type_name,
        },
        "rule": RULE,
        "models": [_model(one) for one in answer.found[:limit]],
        "left_out": answer.left_out,
    }


def _model(one: Recommendation) -> dict[str, object]:
    license = one.entry.license
    return {
        "name": str(one.entry.reference),
        "pull": one.pull,
        "steps": one.steps,
        "type": one.type_name,
        "made_here": one.made_here,
        "engine": one.engine,
        "memory_bytes": one.memory_bytes,
        "is_exact": one.is_exact,
        "context_tokens": one.context_tokens,
        "most_context_tokens": one.most_tokens,
        "decode_tokens_per_s": one.tokens_per_s,
        "license": None if license is None else license.name,
        "commercial": None if license is None else license.commercial,
        "score": one.score,
        "reasons": one.reasons,
    }
