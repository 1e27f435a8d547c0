"""``madang import``: use the models that other programs have, where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import options
from madang.cli.console import data, data_json, data_table, note
from madang.cli.pull import model_document
from madang.core.errors import InvalidRequest, MadangError, ModelNotFound
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.core.settings import Settings
    from madang.models import FoundModel, ModelFiles, Neighbour, Store


def import_models(
    ctx: typer.Context,
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Which of them to import.")] = None,
    *,
    origin: Annotated[
        str | None, typer.Option("--from", metavar="hf|ollama|lmstudio|PATH", help="Look there only.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Import all that are whole.")] = False,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Give the one model another name.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the models of other programs, or import some of them.

    Nothing is copied: the store remembers where the files lie. Removing an imported model leaves them alone.
    """
    from madang.models import Store

    settings = options.settings_of(ctx)
    store = Store(settings.home)
    found = _found(_neighbours(origin, settings))
    if models or everything:
        _import(store, _selected(found, models or [], everything), name, as_json)
    else:
        _list(found, store, settings, as_json)


def _neighbours(origin: str | None, settings: Settings) -> tuple[Neighbour, ...]:
    from madang.models import Folder, find_neighbours

    known = find_neighbours(settings.neighbours)
    if origin is None:
        return known
    holder = {"hf": "the Hugging Face cache", "ollama": "Ollama", "lmstudio": "LM Studio"}.get(origin)
    if holder is not None:
        return tuple(neighbour for neighbour in known if neighbour.holder == holder)
    folder = Folder(Path(origin).expanduser().absolute())
    if not folder.exists:
        raise InvalidRequest(
            f"There is nothing at {folder.path}.",
            param="from",
            hint="Write hf, ollama, lmstudio or the path of a folder.",
        )
    return (folder,)


def _found(neighbours: tuple[Neighbour, ...]) -> list[FoundModel]:
    """One of each name; the first that has it."""
    by_name: dict[str, FoundModel] = {}
    for neighbour in neighbours:
        for model in neighbour.models():
            by_name.setdefault(str(model.reference), model)
    return list(by_name.values())


def _selected(found: list[FoundModel], names: list[str], everything: bool) -> list[FoundModel]:
    by_name = {str(model.reference): model for model in found}
    for name in names:
        if name not in by_name:
            raise ModelNotFound(name, list(by_name), hint=None if by_name else "No other program has models here.")
    return [model for model in found if (everything and model.problem is None) or str(model.reference) in names]


def _import(store: Store, selected: list[FoundModel], name: str | None, as_json: bool) -> None:
    from madang.models import FileReference, import_model, parse_reference

    reference = None if name is None else parse_reference(name)
    if isinstance(reference, FileReference) or (name is not None and len(selected) != 1):
        raise InvalidRequest("--as gives one model one name, such as my-model:latest.", param="as")
    imported: list[ModelFiles] = []
    for model in selected:
        imported.append(files := import_model(store, model, reference))
        if not as_json:
            data(f"{files.name}  {format_bytes(files.size_bytes)}  stays where {model.holder} has it: {model.path}")
    if as_json:
        data_json({"models": [model_document(files) for files in imported]})


def _list(found: list[FoundModel], store: Store, settings: Settings, as_json: bool) -> None:
    rows = [(model, *_engine(model, settings), store.find(model.reference) is not None) for model in found]
    if as_json:
        data_json({"models": [_document(*row) for row in rows]})
        return
    if not found:
        note("No models of other programs were found. Look into a folder with: madang import --from PATH")
        return
    table = [["NAME", "SIZE", "ENGINE", "FROM", "HERE"]]
    for model, engine, _, is_here in rows:
        size = format_bytes(model.as_files().size_bytes)
        table.append([str(model.reference), size, engine or "-", model.holder, "yes" if is_here else ""])
    data_table(table, right=[1])
    for model, _, why, _ in rows:
        if why is not None:
            note(f"{model.reference}: {why}")
    note(f"Import one with: madang import {found[0].reference}    all of them with: madang import --all")


def _document(model: FoundModel, engine: str | None, problem: str | None, is_here: bool) -> dict[str, object]:
    known = model_document(model.as_files())
    return {**known, "holder": model.holder, "engine": engine, "problem": problem, "is_here": is_here}


def _engine(model: FoundModel, settings: Settings) -> tuple[str | None, str | None]:
    """The engine that would run it, or why none does."""
    from madang.runtime.choosing import choose_for

    if model.problem is not None:
        return None, model.problem
    try:
        return choose_for(model.as_files(), settings.engine).choice.entry.name, None
    except MadangError as error:
        return None, error.message
