"""What a model adds that was made from another one: to every request, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from madang.core.engine import AdapterHost, Engine
from madang.core.errors import InvalidReference, InvalidRequest
from madang.core.request import AdapterChoice, Request
from madang.models import Preset, Store, StoredReference, parse_reference


def preset_of(store: Store, model: str) -> Preset | None:
    """By the name that a person gives; None for most models, and for what is no model of the store."""
    try:
        reference = parse_reference(model)
    except InvalidReference:
        return None
    return store.preset(reference) if isinstance(reference, StoredReference) else None


def prepared(store: Store, engine: Engine, preset: Preset | None, requests: Sequence[Request]) -> Sequence[Request]:
    """The requests as the model takes them. Raises InvalidRequest for an adapter that the engine cannot load."""
    if preset is None:
        return requests
    adapter = adapter_of(store, engine, preset)
    derived = [preset.apply(request) for request in requests]
    return derived if adapter is None else [replace(request, adapter=adapter) for request in derived]


def adapter_of(store: Store, engine: Engine, preset: Preset) -> AdapterChoice | None:
    """The preset's adapter, loaded beside the weights if it is not there yet. Raises InvalidRequest like the above."""
    if preset.adapter is None:
        return None
    digest = preset.adapter
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
