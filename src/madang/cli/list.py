"""``madang list``: the models here, or those that madang knows by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data_json, data_table, note
from madang.cli.pull import model_document
from madang.core.units import format_bytes, format_count

if TYPE_CHECKING:
    from madang.models import CatalogEntry, ModelFiles, Store

CATALOG_HEADER = ["NAME", "PARAMETERS", "CONTEXT", "TASKS", "LANGUAGES", "LICENSE", "SELL", "HERE"]
MOST_LANGUAGES = 5


def list_models(
    ctx: typer.Context,
    catalog: Annotated[bool, typer.Option("--catalog", help="List the models that madang knows by name.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the models on this machine."""
    from madang.models import Store

    store = Store(options.settings_of(ctx).home)
    if catalog:
        _list_catalog(store, as_json)
    else:
        _list_local(store.list(), as_json)


def _list_local(models: list[ModelFiles], as_json: bool) -> None:
    if as_json:
        data_json({"models": [model_document(files) for files in models]})
        return
    if not models:
        note("No models here yet. Get a small one with: madang pull smollm2:135m")
        return
    rows = [
        [files.name, format_bytes(files.size_bytes), files.format, f"{files.modified.astimezone():%Y-%m-%d %H:%M}"]
        for files in models
    ]
    data_table([["NAME", "SIZE", "FORMAT", "MODIFIED"], *rows], right=[1])


def _list_catalog(store: Store, as_json: bool) -> None:
    from madang.models import load_catalog

    entries = [(entry, store.find(entry.reference) is not None) for entry in load_catalog().entries.values()]
    if as_json:
        data_json({"models": [catalog_document(entry, is_here) for entry, is_here in entries]})
        return
    data_table([CATALOG_HEADER, *(catalog_row(entry, is_here) for entry, is_here in entries)], right=[1, 2])


def catalog_row(entry: CatalogEntry, is_here: bool) -> list[str]:
    """What is known of it, in the columns of CATALOG_HEADER."""
    return [
        str(entry.reference),
        "-" if entry.parameters is None else format_count(entry.parameters),
        "-" if entry.context_tokens is None else str(entry.context_tokens),
        " ".join(entry.tasks),
        _languages(entry.languages),
        "-" if entry.license is None else entry.license.name,
        "-" if entry.license is None else entry.license.commercial,
        "yes" if is_here else "",
    ]


def _languages(codes: Sequence[str]) -> str:
    more = f" +{len(codes) - MOST_LANGUAGES}" if len(codes) > MOST_LANGUAGES else ""
    return " ".join(sorted(codes, key=("ko", "en").__contains__, reverse=True)[:MOST_LANGUAGES]) + more or "-"


def catalog_document(entry: CatalogEntry, is_here: bool) -> dict[str, object]:
    """The same and more for programs; None is unknown."""
    sampling = {name: value for name, value in asdict(entry.sampling).items() if value is not None}
    return {
        "name": str(entry.reference),
        "source": str(entry.source),
        "format": entry.format,
        "repository": entry.repository,
        "task": entry.task,
        "tasks": entry.tasks,
        "family": entry.family,
        "parameters": entry.parameters,
        "size_bytes": entry.size_bytes,
        "context_tokens": entry.context_tokens,
        "languages": entry.languages,
        "license": None if entry.license is None else entry.license.name,
        "commercial": None if entry.license is None else entry.license.commercial,
        "commercial_reason": None if entry.license is None else entry.license.reason,
        "year": entry.year,
        "types": entry.types,
        "prefixes": asdict(entry.prefixes),
        "sampling_defaults": sampling,
        "is_here": is_here,
    }
