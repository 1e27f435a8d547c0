"""What a model adds that was made from another one, by the name that a client has for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from madang.core.engine import Engine
from madang.core.errors import InvalidReference
from madang.core.request import Request
from madang.models import Preset, Store
from madang.runtime import deriving
from madang.server.bridge import in_thread
from madang.server.names import as_leased, find_reference


def meant(store: Store, model: str) -> tuple[str, Preset | None]:
    """What to lease, and what it adds: None for most models, and for a name that is none, as whoever leases it says."""
    try:
        reference = find_reference(model, store)
    except InvalidReference:
        return model, None
    return as_leased(model, reference), store.preset(reference)


async def prepared(
    store: Store, engine: Engine, preset: Preset | None, requests: Sequence[Request]
) -> Sequence[Request]:
    """The requests as the model takes them. Raises InvalidRequest for an adapter that the engine cannot load."""
    prepare = partial(deriving.prepared, store, engine, preset, requests)
    # Only an adapter takes time.
    return prepare() if preset is None or preset.adapter is None else await in_thread(prepare)
