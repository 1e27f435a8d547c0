"""``madang keys``: API keys of the server, made, listed and removed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the key is called, in logs and metrics too.")]


def add(
    ctx: typer.Context,
    name: Name,
    *,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="GLOB", help="Models that it may use, as 'smollm2:*'; may be given again."),
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", metavar="N/min", help="Most requests per minute.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Most requests that run at once.")
    ] = None,
    manage: Annotated[
        bool,
        typer.Option("--manage", help="It may fetch, make and remove models too, and see every metric and setting."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a key and print its secret, once: only its hash is kept."""
    from madang.server.keys import KeyFile, read_rate

    keys = KeyFile(options.settings_of(ctx).home)
    secret = keys.add(
        name,
        models=models or None,
        requests_per_minute=None if rate is None else read_rate(rate),
        concurrency=concurrency,
        may_manage=manage,
    )
    if as_json:
        data_json({"name": name, "secret": secret})
        return
    data(secret)
    note("Keep it now, it is not shown again. Clients send it as their API key.")


def list_keys(ctx: typer.Context, as_json: options.Json = False) -> None:
    """List the keys, without their secrets."""
    from madang.server.keys import KeyFile

    keys = [_document(key) for key in KeyFile(options.settings_of(ctx).home).list()]
    if as_json:
        data_json({"keys": keys})
        return
    if not keys:
        note("There are no keys, so a server listens on this machine only. Make one with: madang keys add NAME")
        return
    rows = [[_shown(value) for value in key.values()] for key in keys]
    data_table([["NAME", "MODELS", "PER MINUTE", "AT ONCE", "MANAGES", "CREATED"], *rows], right=[2, 3])


def rm(ctx: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """Remove a key; servers that run know at once."""
    from madang.server.keys import KeyFile

    KeyFile(options.settings_of(ctx).home).remove(name)
    if as_json:
        data_json({"removed": name})
    else:
        note(f"Removed {name}.")


def _document(key: Any) -> dict[str, object]:
    return {
        "name": key.name,
        "models": key.models,
        "requests_per_minute": key.requests_per_minute,
        "concurrency": key.concurrency,
        "may_manage": key.may_manage,
        "created": f"{key.created:%Y-%m-%d %H:%M}",
    }


def _shown(value: object) -> str:
    if value is None:
        return "any"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, tuple) else str(value)
