"""What a model adds that was made from another one, by the name that a client has for it."""

from __future__ import annotations

from functools import partial

from madang.core.errors import InvalidReference
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
