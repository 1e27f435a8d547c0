"""Which models a caller may name, and who may change them. Every route that takes a name asks here, if only by taking a
lease; every route that changes what the server has depends on :data:`MANAGES`."""

from __future__ import annotations

from fastapi import Depends

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


def may_manage() -> bool:
    """Whether this caller may change models and look behind the server."""
    visit = VISIT.get()
    return visit is None or visit.key is None or visit.key.may_manage


async def check_manager() -> None:
    """Whether this caller may change models and look behind the server. Raises Forbidden.

    On a server without keys everybody on its machine may.
    """
    if not may_manage():
        raise Forbidden(
            "This key may use models, but not fetch, make, remove or unload them, nor see the server's settings.",
            hint="Its owner makes one that may: madang keys add NAME --manage",
        )


def granted_keep_alive(wanted_s: float | None) -> tuple[float | None, tuple[str, ...]]:
    """How long a model stays in memory because a caller says so, and a warning where it is not the caller's to say.

    Others may use the model, too: only who may unload it may shorten its time, or lengthen it at the cost of others.
    """
    if wanted_s is None or may_manage():
        return wanted_s, ()
    return None, ("'keep_alive' was ignored: this key may not say how long models stay in memory.",)


MANAGES = Depends(check_manager)


def check_overseer() -> None:
    """Whether this caller may read numbers of every model and key. Raises Forbidden for a key of some models only."""
    visit = VISIT.get()
    if visit is not None and visit.key is not None and visit.key.models is not None and not visit.key.may_manage:
        raise Forbidden(
            "The metrics tell of models that this key may not use.",
            hint="Use a key without --models, or one with --manage.",
        )
