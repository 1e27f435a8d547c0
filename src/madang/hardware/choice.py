"""Automatic choices come with their reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """A value and why it is this one."""

    value: T
    reason: str


class Reason(str):
    """A sentence with names, numbers or sizes in it, and how it was made, for who says it in another language.

    template   the sentence, with names in braces
    fields     what stands there
    """

    __slots__ = ("fields", "template")

    template: str
    fields: dict[str, str]

    def __new__(cls, template: str, **fields: object) -> Reason:
        """Put the fields in."""
        texts = {name: str(value) for name, value in fields.items()}
        made = super().__new__(cls, re.sub(r"\{(\w+)\}", lambda name: texts.get(name[1], name[0]), template))
        made.template, made.fields = template, texts
        return made
