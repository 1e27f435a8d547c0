"""From a name to a loaded model. Read this first: it is the path through all rooms below.

reference --store--> files --choosing--> engine entry --plan--> settings with reasons --loader--> Engine
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from madang.core.engine import Embedder, Engine, Loaded, Reranker
from madang.core.errors import InvalidRequest, ModelNotFound, UnsupportedModel
from madang.core.settings import SETTINGS, Settings
from madang.engines import EngineEntry, find_engine
from madang.formats.families import outline_spec, stated_embedding
from madang.formats.folder import trained_tokens
from madang.formats.gguf import read_gguf
from madang.hardware import (
    Choice,
    PlacementRequest,
    Plan,
    PlanRequest,
    make_plan,
    outline_plan,
    packed_weights_bytes,
    probe_machine,
)
from madang.models import (
    FileReference,
    ModelFiles,
    NameReference,
    Reference,
    Store,
    load_catalog,
    parse_reference,
    read_endpoint,
)
from madang.runtime.abilities import as_embedder, as_engine, as_reranker
from madang.runtime.choosing import OWN_ENGINE, Chosen, choose_for, choose_instead

# Where nobody asked for a context, and each of its tokens has a price: what most conversations stay below.
MODEST_CONTEXT_TOKENS = 8192

_USED_REMOTELY = ("home", "context", "engine", "debug", "remote_key")
_UNUSED_REMOTELY = tuple(setting.name for setting in SETTINGS if setting.name not in _USED_REMOTELY)

_log = logging.getLogger(__name__)

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


def open_reranker(reference: str, settings: Settings, *, fetch: Fetch | None = None) -> Reranker:
    """The same for a model that tells how well texts fit a query."""
    loaded = open_loaded(reference, settings, fetch)
    try:
        return as_reranker(loaded)
    except InvalidRequest:
        loaded.close()
        raise


def open_loaded(
    reference: str,
    settings: Settings,
    fetch: Fetch | None = None,
    *,
    entries: Sequence[EngineEntry] | None = None,
) -> Loaded:
    """The same for whatever the model can do; what that is, ``isinstance`` tells. ``entries`` are the engines."""
    if settings.engine == "remote" or read_endpoint(reference) is not None:
        return _connect(reference, settings)
    if settings.engine is not None:
        entry = find_engine(settings.engine)
        if not entry.reads_files:
            _refuse_unused(entry.name, settings, (*_UNUSED_REMOTELY, "remote_key"))
            return entry.standalone()(reference, settings.context)
    store = Store(settings.home)
    files = find_files(reference, store, fetch=fetch)
    chosen = choose_for(files, settings.engine, entries)
    try:
        return _load(files, settings, chosen, store, fetch)
    except UnsupportedModel as refusal:  # some things are only seen when they are read
        if settings.engine is not None or chosen.choice.entry.name != OWN_ENGINE:
            raise
        chosen = choose_instead(files, refusal, entries)
        _log.warning("%s runs with %s: %s.", files.name, chosen.choice.entry.name, chosen.choice.reason)
        return _load(files, settings, chosen, store, fetch)


def _load(files: ModelFiles, settings: Settings, chosen: Chosen, store: Store, fetch: Fetch | None) -> Loaded:
    entry = chosen.choice.entry
    _refuse_unused(entry.name, settings, entry.unused)
    plan = _plan(files, settings, chosen)
    load = entry.loader()
    return load(files, _with_draft_file(plan, store, fetch))


def _connect(reference: str, settings: Settings) -> Loaded:
    """A model that a server runs. The key is sent to servers that a person named, so read docs/how-to/engines.md."""
    if settings.engine not in (None, "remote"):
        raise InvalidRequest(
            f"'{reference}' runs on a server, so the {settings.engine} engine has nothing to run.",
            param="engine",
            hint="Leave --engine out.",
        )
    _refuse_unused("remote", settings, _UNUSED_REMOTELY)
    if settings.remote_key is not None and not settings.secret:
        raise InvalidRequest(
            "The environment variable that was to hold the key of the server is not set.",
            param="remote_key",
            hint="--remote-key takes the name of a variable, not the key itself.",
        )
    return find_engine("remote").standalone()(reference, settings.context, key=settings.secret)


def _refuse_unused(engine: str, settings: Settings, unused: Sequence[str]) -> None:
    """What was asked for in this call, and the engine cannot do; the environment and the config file are for all."""
    for setting, _, origin in settings.rows():
        if origin == "command line" and setting.name in unused:
            raise InvalidRequest(
                f"The {engine} engine has no use for {setting.option}.", param=setting.name, hint="Leave it out."
            )


def plan_for(files: ModelFiles, settings: Settings) -> Plan:
    """Settings for this model on this machine, each with its reason, for the engine that will run it.

    Raises MalformedFile, UnsupportedModel, InvalidRequest for a setting that cannot be honoured, NotEnoughMemory.
    """
    return _plan(files, settings, choose_for(files, settings.engine))


def _plan(files: ModelFiles, settings: Settings, chosen: Chosen) -> Plan:
    """An outline where the insides of the model are the engine's own affair."""
    requested = PlanRequest(
        threads=settings.threads,
        context_tokens=settings.context,
        context_is_limit=settings.origins["context"] != "command line" or _reads_whole_texts(files, chosen),
        isa=settings.isa,
        precision=settings.precision,
        kv_limit_bytes=settings.kv_memory,
        kv_type=settings.kv_type,
        max_concurrency=settings.concurrency,
        speculation=settings.speculation,
        placement=PlacementRequest(settings.device, settings.dtype, settings.quantize, settings.attention),
    )
    machine, description = probe_machine(gpus=False), chosen.description
    if description is None and files.format != "gguf":
        return outline_plan(files.name, machine, requested, trained_tokens=trained_tokens(files.path))
    weights_bytes = None if description is None else packed_weights_bytes(description.tensors.values())
    spec = outline_spec(read_gguf(files.path)) if description is None else description.spec
    plan = make_plan(spec, files, machine, requested, weights_bytes=weights_bytes)
    if (
        not chosen.choice.entry.fills
        or settings.context is not None
        or plan.context_tokens.value <= MODEST_CONTEXT_TOKENS
    ):
        return plan
    requested = replace(requested, context_tokens=MODEST_CONTEXT_TOKENS)
    shorter = make_plan(spec, files, machine, requested, weights_bytes=weights_bytes)
    reason = "this engine takes the memory of its whole context at the start; --context asks for more"
    return replace(shorter, context_tokens=Choice(MODEST_CONTEXT_TOKENS, reason))


def _reads_whole_texts(files: ModelFiles, chosen: Chosen) -> bool:
    """Its context is the longest text, which nobody can lengthen, while other models on a server may have more."""
    if chosen.description is not None:
        return chosen.description.embedding is not None or chosen.description.ranks_pairs
    return files.format == "huggingface" and stated_embedding(files.path) is not None


def _with_draft_file(plan: Plan, store: Store, fetch: Fetch | None) -> Plan:
    """Engines know files, people know names: the draft model's."""
    kind, _, reference = plan.speculation.value.partition(":")
    if kind != "draft":
        return plan
    path = find_files(reference, store, fetch=fetch).path
    return replace(plan, speculation=Choice(f"draft:{path}", plan.speculation.reason))


def find_files(reference: str, store: Store, *, fetch: Fetch | None = None) -> ModelFiles:
    """The model's files on this machine. Raises ModelNotFound with the command that gets it, FileLost."""
    parsed = parse_reference(reference)
    files = store.find(parsed)
    if files is not None:
        return files
    if (lost := store.lost(parsed)) is not None:
        raise lost
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
