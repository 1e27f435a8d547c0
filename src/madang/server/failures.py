"""The one table from errors to HTTP. Each API renders the body in its own shape."""

from __future__ import annotations

from http import HTTPStatus

from madang.core import errors

STATUS: dict[type[errors.MadangError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.ModelNotFound: HTTPStatus.NOT_FOUND,
    errors.UnsupportedModel: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AdapterMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.SourceError: HTTPStatus.BAD_GATEWAY,
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


def sentence_of(error: BaseException) -> str:
    """What a client may read. Of an error that is not ours it learns nothing: texts of others hold paths and values."""
    if not isinstance(error, errors.MadangError):
        return "The server failed; its log says why."
    return error.message if error.hint is None else f"{error.message} {error.hint}"
