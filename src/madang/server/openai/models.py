"""``/v1/models``: which models can be asked for."""

from __future__ import annotations

from typing import Any

from madang.core.errors import InvalidReference, ModelNotFound
from madang.models import FileReference, ModelFiles, Store, parse_reference
from madang.server.scopes import is_visible


def model_list(store: Store) -> dict[str, Any]:
    """Every model of the store that the caller may use."""
    return {"object": "list", "data": [_model(files) for files in store.list() if is_visible(files.name)]}


def one_model(store: Store, name: str) -> dict[str, Any]:
    """The model of that name. Raises ModelNotFound; a path is no name here."""
    known = [files.name for files in store.list() if is_visible(files.name)]
    try:
        reference = parse_reference(name)
    except InvalidReference:
        raise ModelNotFound(name, known) from None
    files = None if isinstance(reference, FileReference) else store.find(reference)
    if files is None or not is_visible(files.name):
        raise ModelNotFound(name, known)
    return _model(files)


def _model(files: ModelFiles) -> dict[str, Any]:
    return {
        "id": files.name,
        "object": "model",
        "created": int(files.modified.timestamp()),
        "owned_by": "madang",
    }
