"""What all documents have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from madang.hardware import Reason
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


class Sentence(Document):
    """How an English sentence was made: ``fields`` stand in place of the names in braces.

    Who says it in another language looks for the template.
    """

    template: str
    fields: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Sentence:
        """One without names is its own template."""
        if isinstance(text, Reason):
            return cls(template=text.template, fields=text.fields)
        return cls(template=text, fields={})


class Failure(Document):
    """Why something ended without a result."""

    code: str
    message: str
