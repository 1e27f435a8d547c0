"""The one table from errors to HTTP. Each API renders the body in its own shape."""

from __future__ import annotations

import math
from http import HTTPStatus

from madang.core import errors

STATUS: dict[type[errors.MadangError], HTTPStatus] = {
    errors.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.InvalidKey: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.AccessDenied: HTTPStatus.FORBIDDEN,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TryLater: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.ModelNotFound: HTTPStatus.NOT_FOUND,
    errors.FileLost: HTTPStatus.NOT_FOUND,
    errors.UnsupportedModel: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AdapterMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DocumentError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SourceError: HTTPStatus.BAD_GATEWAY,
    errors.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotEnoughMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotEnoughDisk: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.NotEnoughResources: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.EngineUnavailable: HTTPStatus.NOT_IMPLEMENTED,
    errors.EngineError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.MadangError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: BaseException) -> HTTPStatus:
    """The status of the closest class in the table; 500 for what is no error of ours."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def headers_of(error: BaseException) -> dict[str, str]:
    """What programs act on: when to come again, and what a key has to look like."""
    if isinstance(error, errors.TryLater):
        return {"Retry-After": str(max(math.ceil(error.retry_after_s), 1))}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.InvalidKey) else {}


def sentence_of(error: BaseException) -> str:
    """What a client may read. Of an error that is not ours it learns nothing: texts of others hold paths and values."""
    if not isinstance(error, errors.MadangError):
        return "The server failed; its log says why."
    if isinstance(error, errors.MalformedFile):  # where a server keeps its files is nobody's business
        return f"The file of this model is damaged: {error.problem}."
    if isinstance(error, errors.FileLost):
        return f"The file of this model {error.what} since it was imported."
    if isinstance(error, errors.NotEnoughDisk):
        return "The server's disk is full."
    return error.message if error.hint is None else f"{error.message} {error.hint}"
