"""What all documents have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from madang.server.wire import check_characters


class Document(BaseModel):
    """Every answer is an object."""


class Request(BaseModel):
    """Every body is an object, of these fields only."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_body(cls, body: object) -> object:
        check_characters(body)
        return body


class Failure(Document):
    """Why something ended without a result."""

    code: str
    message: str
