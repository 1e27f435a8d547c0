"""What every client is asked, and how answers are looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO"
    "9TXL0Y4OHwAAAABJRU5ErkJggg=="
)


def too_long() -> list[dict[str, str]]:
    """A conversation of more tokens than the server's context has."""
    return [{"role": "user", "content": "word " * 10_000}]


def is_person(text: str) -> bool:
    """Whether it follows the schema."""
    person = json.loads(text)
    return set(person) == {"name", "age"} and isinstance(person["age"], int)


def stay_closest(vectors: Sequence[Sequence[float]]) -> bool:
    """Whether the first of three texts is nearer to the second than to the third."""
    one, two, three = vectors

    def product(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    return product(one, two) > product(one, three)
