"""What a model adds that was made from another one: to every request, whatever API it came by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from madang.core.engine import AdapterHost, Engine
from madang.core.errors import InvalidReference, InvalidRequest
from madang.core.request import AdapterChoice, Request
from madang.models import Preset, Store
from madang.server.bridge import in_thread
from madang.server.names import find_reference


async def preset_of(store: Store, model: str) -> Preset | None:
    """None for most models, and for a name that is none: whoever leases it says so."""
    try:
        reference = find_reference(model, store)
    except InvalidReference:
        return None
    return await in_thread(partial(store.preset, reference))


def prepared(store: Store, engine: Engine, preset: Preset | None, requests: Sequence[Request]) -> Sequence[Request]:
    """The requests as the model takes them. Raises InvalidRequest for an adapter that the engine cannot load."""
    if preset is None:
        return requests
    adapter = None if preset.adapter is None else _adapter(store, engine, preset.adapter)
    derived = [preset.apply(request) for request in requests]
    return derived if adapter is None else [replace(request, adapter=adapter) for request in derived]


def _adapter(store: Store, engine: Engine, digest: str) -> AdapterChoice:
    """The adapter with this digest, loaded beside the weights if it is not there yet."""
    if not isinstance(engine, AdapterHost):
        raise InvalidRequest(
            f"This model has an adapter, which the {engine.info.engine} engine does not load.", param="model"
        )
    name = store.blob_path(digest).name
    if name not in engine.adapter_bytes:
        try:
            engine.load_adapter(store.blob_path(digest), name)
        except InvalidRequest:
            if name not in engine.adapter_bytes:  # nobody else has loaded it meanwhile
                raise
    return AdapterChoice(name)
