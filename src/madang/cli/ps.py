"""``madang ps`` and ``madang top``: what a server that runs has in memory and does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from madang.cli import options
from madang.cli.asking import DEFAULT_URL, Server, ask
from madang.cli.console import data_json, data_table, harmless, note
from madang.core.errors import MadangError
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

PATH = "/madang/v1/metrics"
REQUESTS = "/madang/v1/requests"


def ps(ctx: typer.Context, server: Server = DEFAULT_URL, as_json: options.Json = False) -> None:
    """List the models that a server has in memory, and why each is there."""
    resident = ask(server, PATH, ctx.obj)["resident"]
    if as_json:
        data_json({"models": resident})
    elif not resident:
        note("No model is in memory; the first request loads one.")
    else:
        rows = [_row(model, datetime.now(UTC)) for model in resident]
        data_table([["MODEL", "ENGINE", "SIZE", "CONTEXT", "IN USE", "UNTIL", "WHY"], *rows], right=[2, 3, 4])


def top(
    ctx: typer.Context,
    server: Server = DEFAULT_URL,
    interval: Annotated[
        float, typer.Option("--interval", metavar="S", min=0.2, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit.")] = False,
) -> None:
    """Watch a server: requests, tokens per second, latencies, cache and memory, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    looks = _looks(server, ctx.obj, interval)
    console = Console()
    if once:
        console.print(view(*next(looks)))
        return
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        for before, now in looks:
            live.update(view(before, now), refresh=True)


def _looks(
    server: str, environment: Mapping[str, str], interval_s: float
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """What the server says, with what it said before."""
    before = None
    while True:
        now = ask(server, PATH, environment)
        with suppress(MadangError):  # a key of some models may not see the requests of all
            now |= ask(server, REQUESTS, environment)
        yield before, now
        before = now
        time.sleep(interval_s)


def view(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Group:
    """One screen. Rates are between two looks; the first one has none."""
    from rich.console import Group

    return Group(_models(before, now), *([_requests(now["requests"])] if now.get("requests") else ()))


def _table(title: str, heads: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for number, head in enumerate(heads.split("|")):
        table.add_column(head, justify="right" if number else "left")
    return table


def _models(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Table:
    from rich.text import Text

    title = f"up {_duration(now['uptime_s'])}   running {now['running']:g}   waiting {now['waiting']:g}"
    if "memory" in now:
        held, free = now["memory"]["process_bytes"], now["memory"]["machine_available_bytes"]
        title += f"   memory {format_bytes(held)}, free {format_bytes(free)}"
    latencies = "FIRST TOKEN p50 p95|NEXT TOKEN p50 p95"
    table = _table(title, f"MODEL|MEMORY|REQUESTS|FAILED|PROMPT/S|ANSWER/S|CACHED|GUESSED|{latencies}")
    resident = {model["model"]: model for model in now["resident"]}
    for name in sorted({*now["models"], *resident}):
        totals = now["models"].get(name, {})
        earlier = None if before is None else before["models"].get(name, {})
        seconds = 0.0 if before is None else now["uptime_s"] - before["uptime_s"]
        memory = format_bytes(resident[name]["size_bytes"]) if name in resident else "-"
        cells = [harmless(name), memory, *_cells(totals, earlier, seconds)]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _requests(live: Sequence[Mapping[str, Any]]) -> Table:
    from rich.text import Text

    table = _table("", "REQUEST|MODEL|KEY|STATE|TOKENS|PER SECOND")
    for one in live:
        rate = "-" if one["tokens_s"] is None else f"{one['tokens_s']:.1f}"
        cells = [one["path"], one["model"], one["key"] or "-", one["state"], str(one["completion_tokens"]), rate]
        table.add_row(*(Text(harmless(cell)) for cell in cells))
    return table


def _cells(totals: Mapping[str, Any], earlier: Mapping[str, Any] | None, seconds: float) -> Sequence[str]:
    return (
        str(totals.get("requests", 0)),
        str(totals.get("failures", 0)),
        _rate(totals, earlier, "prompt_tokens", seconds),
        _rate(totals, earlier, "generation_tokens", seconds),
        _share(totals.get("cached_tokens", 0), totals.get("prompt_tokens", 0)),
        _share(totals.get("accepted_tokens", 0), totals.get("drafted_tokens", 0)),
        _latency(totals.get("time_to_first_token_s")),
        _latency(totals.get("inter_token_latency_s")),
    )


def _rate(totals: Mapping[str, Any], earlier: Mapping[str, Any] | None, name: str, seconds: float) -> str:
    if earlier is None or seconds <= 0:  # the first look, or the server was started again
        return "-"
    return f"{max(totals.get(name, 0) - earlier.get(name, 0), 0) / seconds:.1f}"


def _share(part: int, whole: int) -> str:
    return "-" if whole == 0 else f"{part / whole:.0%}"


def _latency(percentiles: Mapping[str, float] | None) -> str:
    if percentiles is None:
        return "-"
    return " ".join(f"{percentiles[name] * 1e3:.0f}" for name in ("p50", "p95")) + " ms"


def _row(model: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        model["model"],
        model["engine"],
        format_bytes(model["size_bytes"]),
        str(model["context_tokens"]),
        str(model["leases"]),
        _until(model, now),
        model["reason"],
    ]


def _until(model: Mapping[str, Any], now: datetime) -> str:
    if model["leases"] > 0:
        return "in use"
    if model["expires_at"] is None:
        return "stays"
    return f"in {_duration(max((datetime.fromisoformat(model['expires_at']) - now).total_seconds(), 0.0))}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
