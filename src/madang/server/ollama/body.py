"""The JSON body of a request, read with the type that each field must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from madang.core.errors import InvalidRequest

T = TypeVar("T")

NOT_KNOWN: Final = "madang does not know it"


@dataclass(frozen=True, slots=True)
class Fields:
    """What an endpoint does with each field that the API has; none is in two of the three.

    honoured   it does what it says
    ignored    it changes nothing, for the reason given, and the answer says so
    refused    400, with the reason given, unless it is empty or false
    """

    honoured: tuple[str, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def check(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """A warning for each field without effect. Raises InvalidRequest for the first that is refused."""
        warnings = []
        for name, value in body.items():
            if name in self.honoured or _is_empty(value):
                continue
            if name in self.refused:
                raise InvalidRequest(f"'{name}' cannot be honoured: {self.refused[name]}.", param=name)
            warnings.append(f"'{name[:60]}' was ignored: {self.ignored.get(name, NOT_KNOWN)}.")
        return tuple(warnings)

    def described(self, *required: str) -> dict[str, Any]:
        """The same lists for the OpenAPI document."""
        properties: dict[str, Any] = {name: {} for name in self.honoured}
        properties |= {name: {"description": f"Ignored: {why}."} for name, why in self.ignored.items()}
        properties |= {name: {"description": f"Refused: {why}."} for name, why in self.refused.items()}
        schema = {"type": "object", "properties": properties, "required": list(required)}
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@dataclass(frozen=True, slots=True)
class Body:
    """Typed reading; null is the same as absent. Every method raises InvalidRequest for a value of another type."""

    fields: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """A text."""
        return self._typed(name, str, "a text")

    def flag(self, name: str) -> bool | None:
        """True or false."""
        return self._typed(name, bool, "true or false")

    def whole(self, name: str) -> int | None:
        """A whole number."""
        value = self.fields.get(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return self._typed(name, int, "a whole number")

    def entries(self, name: str) -> list[Any]:
        """A list, empty when there is none."""
        return self._typed(name, list, "a list") or []

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, empty when there is none."""
        return self._typed(name, dict, "an object") or {}

    def require_text(self, name: str, *others: str) -> str:
        """A text that is not empty, under the first of the names that is there."""
        for one in (name, *others):
            if value := self.text(one):
                return value
        raise InvalidRequest(f"'{name}' is missing.", param=name)

    def _typed(self, name: str, kind: type[T], words: str) -> T | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        raise InvalidRequest(f"'{name}' must be {words}.", param=name)


def parse_body(content: bytes) -> Body:
    """Raises InvalidRequest when it is not one JSON object; nothing at all is an empty one."""
    try:
        fields = json.loads(content or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON ({type(error).__name__}).", param="body") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.", param="body")
    if b"\\ud" in content.lower():  # perhaps half of a character, which no text can hold
        try:
            json.dumps(fields, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                "The body has half of a surrogate pair, which is no character.", param="body"
            ) from None
    return Body(fields)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _is_empty(value: object) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}
