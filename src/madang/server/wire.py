"""Requests as they come over the wire: which fields have an effect, which have none, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from starlette.requests import Request as HttpRequest

from madang.core.errors import InvalidRequest, did_you_mean
from madang.server.limits import NUMBERS, check_fields
from madang.server.state import ServerState


async def _state(http: HttpRequest) -> ServerState:  # FastAPI would run a plain function in a thread
    state: ServerState = http.app.state.server
    return state


State = Annotated[ServerState, Depends(_state)]


def check_characters(body: object) -> None:
    """JSON can spell halves of characters, and Python reads NaN, which no tokenizer, database or answer can hold."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("The body of the request has half a surrogate pair, which is no text.") from error
    except ValueError as error:
        raise InvalidRequest("The body of the request has NaN or infinity, which JSON does not know.") from error


class Refused(NamedTuple):
    """Why a field cannot be honoured, and the values of it that ask for nothing."""

    why: str
    harmless: tuple[Any, ...] = ()


class WireObject(BaseModel):
    """A part of a request. What it does not know is kept, to be told about."""

    model_config = ConfigDict(extra="allow", strict=True)


class WireRequest(WireObject):
    """The body of a request: its declared fields are honoured, and every other is in one of two lists.

    IGNORED   name -> why it has no effect here
    REFUSED   name -> why answering without it would be wrong
    """

    IGNORED: ClassVar[Mapping[str, str]] = {}
    REFUSED: ClassVar[Mapping[str, Refused]] = {}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """With the bounds of numbers, which are checked by hand so that their refusal is a sentence."""
        described = handler.resolve_ref_schema(handler(schema))
        for name, bounds in NUMBERS.items():
            declared = described.get("properties", {}).get(name, {})
            for part in (declared, *declared.get("anyOf", ())):
                if part.get("type") in ("integer", "number"):
                    part.setdefault("minimum", bounds[0])
                    part.setdefault("maximum", bounds[1])
        return described

    @model_validator(mode="before")
    @classmethod
    def _check_body(cls, body: object) -> object:
        """See :func:`check_characters`, and the bounds of each field."""
        check_characters(body)
        check_fields(body)
        return body

    def ignored(self) -> list[str]:
        """A sentence for each field that has no effect. Raises InvalidRequest for one that must have one."""
        warnings: list[str] = []
        for name, value in (self.model_extra or {}).items():
            refused = self.REFUSED.get(name)
            if value is None or (refused is not None and value in refused.harmless):
                continue
            if refused is not None:
                raise InvalidRequest(f"{name} cannot be honoured: {refused.why}.", param=name)
            if name in self.IGNORED:
                warnings.append(f"{name} is ignored: {self.IGNORED[name]}.")
            else:
                known = did_you_mean(name, [*type(self).model_fields])
                warnings.append(f"{name} is ignored: it is not known here.{'' if known is None else ' ' + known}")
        return warnings


def problem_of(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """The first thing that is wrong with a body, by pydantic's account of it."""
    first = errors[0]
    # FastAPI says "body" first; pydantic names the alternatives of a union, which are no fields.
    place = [str(step) for step in first["loc"] if step != "body" and not _is_alternative(step)]
    param = ".".join(place) or None
    if first["type"] == "json_invalid":
        return InvalidRequest("The body of the request is not JSON.")
    if param is None:
        return InvalidRequest("The body of the request must be a JSON object.")
    if first["type"] == "missing":
        return InvalidRequest(f"{param} is missing.", param=param)
    return InvalidRequest(f"{param} is not what it must be: {first['msg']}.", param=param)


def _is_alternative(step: str | int) -> bool:
    return isinstance(step, str) and (step in {"str", "int", "float", "bool"} or "[" in step or step[:1].isupper())
