"""Forms that an answer can be held to while it is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that a schema accepts (JSON Schema 2020-12, as far as llguidance reads it); an empty schema is any JSON.

    Members come in the order of ``properties``. Say ``maxLength`` and ``maxItems`` where an answer must not run into
    its limit of tokens: it would be cut there, and end with the finish reason "length".
    """

    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that the pattern matches as a whole (Rust's regex syntax: no look-around, no back-references)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free grammar in Lark's notation, as llguidance reads it; its start rule is ``start``.

    Control tokens (``<name>``, ``<[number]>``) cannot be part of it.
    """

    text: str


Constraint: TypeAlias = JsonSchema | Regex | Grammar
