"""Errors of the own API: all that is known of them, as the command line's ``--json`` has it."""

from __future__ import annotations

from typing import Any

from madang.core.errors import FileLost, MadangError, MalformedFile, NotEnoughDisk
from madang.server.failures import sentence_of
from madang.server.manage.documents.base import Failure


def error_body(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """Code, sentence, hint and the fields of its class; of an error that is not ours, only that there was one.

    Where files lie on the server is left out, as in every API.
    """
    if isinstance(error, FileLost | MalformedFile | NotEnoughDisk):
        return {"error": {"code": error.code, "message": sentence_of(error), "hint": None}}
    if isinstance(error, MadangError):
        fields = {name: value for name, value in error.to_dict().items() if _is_plain(value)}
        return {"error": fields}
    return {"error": {"code": "error", "message": sentence_of(error), "hint": None}}


def failure_of(error: BaseException | None) -> Failure | None:
    """Why work in the background ended; None where nothing went wrong."""
    if error is None:
        return None
    code = error.code if isinstance(error, MadangError) else MadangError.code
    return Failure(code=code, message=sentence_of(error))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)
