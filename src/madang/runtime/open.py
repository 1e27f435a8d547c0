"""From a name to a loaded model. Read this first: it is the path through all rooms below.

reference --store--> files --table--> engine entry --plan--> settings with reasons --loader--> Engine
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from madang.core.engine import Embedder, Engine, Loaded
from madang.core.errors import InvalidRequest, ModelNotFound
from madang.core.settings import Settings
from madang.engines import choose_engine, find_engine
from madang.formats.families import describe_model
from madang.hardware import Choice, Plan, PlanRequest, make_plan, packed_weights_bytes, probe_machine
from madang.models import FileReference, ModelFiles, NameReference, Reference, Store, load_catalog, parse_reference
from madang.runtime.abilities import as_embedder, as_engine

_USED_WITHOUT_FILES = ("home", "context", "engine", "debug")

Fetch: TypeAlias = Callable[[Reference, Store], ModelFiles]


def open_model(reference: str, settings: Settings, *, fetch: Fetch | None = None) -> Engine:
    """Load the model that ``reference`` names, to answer with. The caller closes the engine.

    A model that is not here is got with ``fetch``, or is an error without it. Raises InvalidReference, ModelNotFound,
    MalformedFile, UnsupportedModel, UnknownOption, EngineUnavailable, NotEnoughMemory, and what ``fetch`` raises.
    """
    loaded = open_loaded(reference, settings, fetch)
    try:
        return as_engine(loaded)
    except InvalidRequest:
        loaded.close()
        raise


def open_embedder(reference: str, settings: Settings, *, fetch: Fetch | None = None) -> Embedder:
    """The same for a model that turns texts into vectors."""
    loaded = open_loaded(reference, settings, fetch)
    try:
        return as_embedder(loaded)
    except InvalidRequest:
        loaded.close()
        raise


def open_loaded(reference: str, settings: Settings, fetch: Fetch | None = None) -> Loaded:
    """The same for whatever the model can do; what that is, ``isinstance`` tells."""
    if settings.engine is not None:
        entry = find_engine(settings.engine)
        if not entry.reads_files:
            _refuse_unused(entry.name, settings)
            return entry.standalone()(reference, settings.context)
    store = Store(settings.home)
    files = find_files(reference, store, fetch=fetch)
    choice = choose_engine(files.format, settings.engine)
    plan = plan_for(files, settings)
    return choice.entry.loader()(files, _with_draft_file(plan, store, fetch))


def _refuse_unused(engine: str, settings: Settings) -> None:
    """Of an engine without files, what was asked for in this call; the environment and the config file are for all."""
    for setting, _, origin in settings.rows():
        if origin == "command line" and setting.name not in _USED_WITHOUT_FILES:
            raise InvalidRequest(
                f"The {engine} engine has no use for {setting.option}.", param=setting.name, hint="Leave it out."
            )


def plan_for(files: ModelFiles, settings: Settings) -> Plan:
    """Settings for this model on this machine, each with its reason.

    Raises MalformedFile, UnsupportedModel, InvalidRequest for a setting that cannot be honoured, NotEnoughMemory.
    """
    description = describe_model(files.path, files.format)
    requested = PlanRequest(
        threads=settings.threads,
        context_tokens=settings.context,
        isa=settings.isa,
        precision=settings.precision,
        kv_limit_bytes=settings.kv_memory,
        kv_type=settings.kv_type,
        max_concurrency=settings.concurrency,
        speculation=settings.speculation,
    )
    weights_bytes = packed_weights_bytes(description.tensors.values())
    return make_plan(description.spec, files, probe_machine(gpus=False), requested, weights_bytes=weights_bytes)


def _with_draft_file(plan: Plan, store: Store, fetch: Fetch | None) -> Plan:
    """Engines know files, people know names: the draft model's."""
    kind, _, reference = plan.speculation.value.partition(":")
    if kind != "draft":
        return plan
    path = find_files(reference, store, fetch=fetch).path
    return replace(plan, speculation=Choice(f"draft:{path}", plan.speculation.reason))


def find_files(reference: str, store: Store, *, fetch: Fetch | None = None) -> ModelFiles:
    """The model's files on this machine. Raises ModelNotFound with the command that gets it, if any does."""
    parsed = parse_reference(reference)
    files = store.find(parsed)
    if files is not None:
        return files
    if fetch is not None:
        return fetch(parsed, store)
    raise _not_here(parsed, store)


def _not_here(reference: Reference, store: Store) -> ModelNotFound:
    if isinstance(reference, FileReference):
        return ModelNotFound(str(reference), hint="Check the path; nothing lies there.")
    catalog = load_catalog()
    if isinstance(reference, NameReference) and catalog.find(reference) is None:
        local = [files.name for files in store.list()]
        return ModelNotFound(str(reference), [*catalog.entries, *catalog.aliases, *local])
    return ModelNotFound(str(reference), hint=f"Get it with: madang pull {reference}")
