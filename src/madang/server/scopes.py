"""Which models a caller may name. Every route that takes a name asks here, if only by taking a lease."""

from __future__ import annotations

from madang.core.errors import Forbidden, ModelNotFound
from madang.models import FileReference, parse_reference
from madang.server.visit import VISIT


def check_model(reference: str) -> None:
    """Whether this caller may use the model that a reference means, in whatever form it is written.

    Raises InvalidReference, Forbidden for a file of this machine, and ModelNotFound for what the key's patterns do not
    cover: a caller learns nothing about models that are not for it.
    """
    visit = VISIT.get()
    if visit is None:
        return
    parsed = parse_reference(reference)
    if isinstance(parsed, FileReference) and not visit.allows_files:
        raise Forbidden("Files of the server's machine cannot be named as models.")
    name = str(parsed)
    if visit.key is not None and not visit.key.may_use(name):
        raise ModelNotFound(name, hint="This key may use: " + ", ".join(visit.key.models or ()))
    visit.model = name


def is_visible(name: str) -> bool:
    """Whether a list may show this model to this caller; ``name`` is canonical."""
    visit = VISIT.get()
    return visit is None or visit.key is None or visit.key.may_use(name)
