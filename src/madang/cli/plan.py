"""``madang plan``: how a model would run here, how much memory it takes and how fast it is, before it is loaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, facts, note
from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes, format_count

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.hardware import Choice
    from madang.runtime.forecasting import Reasoning

TABLE_CONTEXT_TOKENS = 4096


def plan(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As for 'madang run'; of hf: and ollama: only the header is fetched."),
    ] = None,
    *,
    table: Annotated[
        bool, typer.Option("--table", help="Show what models of 1 to 13 B take in each precision, instead.")
    ] = False,
    context: options.Context = None,
    threads: options.Threads = None,
    engine: options.Engine = None,
    kv_memory: options.KvMemory = None,
    kv_type: options.KvType = None,
    as_json: options.Json = False,
) -> None:
    """Show how a model would run on this machine, and why: settings, memory, and the speed to expect."""
    settings = options.settings_of(
        ctx, context=context, threads=threads, engine=engine, kv_memory=kv_memory, kv_type=kv_type
    )
    if table == (model is not None):
        raise InvalidRequest("'madang plan' takes either a model or --table.", param="model")
    if table:
        _show_table(settings, as_json)
    elif model is not None:
        _show_plan(model, settings, as_json)


def _show_plan(model: str, settings: Settings, as_json: bool) -> None:
    from madang.runtime.forecasting import planned_files, reason

    with planned_files(model, settings) as files:
        reasoning = reason(files, settings)
    if as_json:
        data_json(_document(reasoning))
    else:
        _print(reasoning)


def _document(reasoning: Reasoning) -> dict[str, Any]:
    memory = reasoning.plan.memory
    document = asdict(reasoning)
    document["memory"] = None if memory is None else {**asdict(memory), "total_bytes": memory.total_bytes}
    del document["plan"]["memory"]
    document["fixed"] = [{"name": name, "value": value, "reason": why} for name, value, why in _fixed(reasoning)]
    return document


def _print(reasoning: Reasoning) -> None:
    facts({"Model": reasoning.model, "Engine": f"{reasoning.engine} ({reasoning.engine_reason})"})
    data("")
    data_table([["SETTING", "VALUE", "BECAUSE"], *_setting_rows(reasoning)])
    if reasoning.types:
        data("")
        rows = [
            [row.type, str(row.n_tensors), format_bytes(row.file_bytes), format_bytes(row.memory_bytes)]
            for row in reasoning.types
        ]
        data_table([["TYPE", "TENSORS", "IN FILES", "IN MEMORY"], *rows], right=[1, 2, 3])
    data("")
    _print_memory(reasoning)
    _print_speeds(reasoning)


def _setting_rows(reasoning: Reasoning) -> list[list[str]]:
    plan = reasoning.plan
    choices: dict[str, Choice[int] | Choice[str]] = {
        "threads": plan.threads,
        "context": plan.context_tokens,
        "prompt chunk": plan.prefill_chunk_tokens,
        "KV type": plan.kv_type,
        "concurrency": plan.max_concurrency,
        "speculation": plan.speculation,
        "precision": plan.precision,
    }
    rows = [[name, str(choice.value), choice.reason] for name, choice in choices.items()]
    rows.append(["KV memory", format_bytes(plan.kv_limit_bytes.value), plan.kv_limit_bytes.reason])
    return rows + [list(row) for row in _fixed(reasoning)]


def _fixed(reasoning: Reasoning) -> list[tuple[str, str, str]]:
    """What an engine does that nothing chooses between here."""
    if reasoning.engine == "native":
        return [
            ("GPU layers", "0", "the native engine computes on the processor"),
            ("mmap", "off", "weights are repacked for this processor, so the file is read once and not kept"),
            ("mlock", "off", "the system may page out what was not used for long"),
        ]
    if reasoning.engine == "llamacpp":
        return [
            ("GPU layers", "auto", "as llama.cpp sees fit, where its build has a GPU"),
            ("mmap", "on", "llama.cpp's default: pages of the file come as they are needed"),
            ("mlock", "off", "llama.cpp's default"),
        ]
    return []


def _print_memory(reasoning: Reasoning) -> None:
    memory = reasoning.plan.memory
    if memory is None:
        data("How much memory it takes is the engine's own affair.")
        return
    rows = [
        ["weights", format_bytes(memory.weights_bytes), "as they lie in memory, each byte known from the header"],
        ["KV cache", format_bytes(memory.kv_cache_bytes), "one conversation of the whole context"],
        ["working", format_bytes(memory.working_bytes), "interpreter, tokenizer, logits, activations of a chunk"],
        ["together", format_bytes(memory.total_bytes), ""],
    ]
    data_table([["MEMORY", "BYTES", ""], *rows], right=[1])


def _print_speeds(reasoning: Reasoning) -> None:
    data("")
    if not reasoning.speeds:
        if reasoning.engine == "native":
            data("Its speed is unknown until this machine is measured: madang doctor --measure")
        return
    rows = [
        [str(speed.tokens), f"{speed.prompt_tokens_per_s:.0f}", f"{speed.decode_tokens_per_s:.1f}"]
        for speed in reasoning.speeds
    ]
    data_table([["CONTEXT", "PROMPT TOKENS/S", "DECODE TOKENS/S"], *rows], right=[0, 1, 2])
    corrected = ", corrected by earlier runs" if reasoning.corrected else ""
    note(f"Forecast from what was measured at {reasoning.measured_at}{corrected}.")


def _show_table(settings: Settings, as_json: bool) -> None:
    from madang.hardware.seed_table import seed_table

    n_tokens = TABLE_CONTEXT_TOKENS if settings.context is None else settings.context
    rows = list(seed_table(n_tokens, kv_type=_kv_type(settings)))
    if as_json:
        models = [{**asdict(row), "total_bytes": row.total_bytes} for row in rows]
        data_json({"context_tokens": n_tokens, "models": models})
        return
    head = ["SIZE", "MODEL", "PRECISION", "TYPE", "WEIGHTS", "KV CACHE", "TOGETHER", "WEIGHTS, BYTES", "KV, BYTES"]
    cells = [
        [
            row.size,
            f"{row.model} ({format_count(row.parameters)})",
            row.precision,
            row.type,
            *map(format_bytes, (row.weights_bytes, row.kv_cache_bytes, row.total_bytes)),
            *map(str, (row.weights_bytes, row.kv_cache_bytes)),
        ]
        for row in rows
    ]
    data_table([head, *cells], right=[4, 5, 6, 7, 8])
    data(f"The cache is for {n_tokens} tokens; together is with about what a process needs beside both.")


def _kv_type(settings: Settings) -> str:
    from madang.core.errors import UnknownOption
    from madang.hardware.kv_cache import KV_TYPES

    wanted = settings.kv_type or KV_TYPES[0]
    if wanted not in KV_TYPES:
        raise UnknownOption("kind of cache", wanted, KV_TYPES)
    return wanted
