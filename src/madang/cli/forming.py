"""What the command line says of an answer's form, and of the adapter it is made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from madang.core import AdapterChoice, AdapterHost, Constraint, Engine, Grammar, JsonSchema, Regex
from madang.core.errors import InvalidRequest


def constraint_of(schema: str | None, regex: str | None, grammar: str | None) -> Constraint | None:
    """The one form that was asked for. Raises InvalidRequest for several, and for what cannot be read."""
    given = {"--schema": schema, "--regex": regex, "--grammar": grammar}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InvalidRequest(f"An answer has one form; {' and '.join(names)} were given.", param="constraint")
    if schema is not None:
        return _schema(schema)
    if grammar is not None:
        return Grammar(_read(grammar, "grammar"))
    return None if regex is None else Regex(regex)


class AdapterArgument(NamedTuple):
    """A LoRA adapter to load, and the factor on what it adds."""

    path: Path
    scale: float

    @classmethod
    def of(cls, text: str) -> AdapterArgument:
        """``PATH[:SCALE]``. Raises InvalidRequest when nothing lies there."""
        path, scale = Path(text), 1.0
        before, colon, behind = text.rpartition(":")
        if colon and before and not path.exists():
            number = _number(behind)
            path, scale = (path, scale) if number is None else (Path(before), number)
        if not path.exists():
            raise InvalidRequest(f"There is no adapter at {path}.", param="adapter", hint="Check the path.")
        return cls(path, scale)

    def load_into(self, engine: Engine) -> AdapterChoice:
        """Put it beside the model. Raises InvalidRequest for an engine without adapters, and what loading raises."""
        if not isinstance(engine, AdapterHost):
            raise InvalidRequest(f"The {engine.info.engine} engine has no adapters.", param="adapter")
        return AdapterChoice(engine.load_adapter(self.path), self.scale)


def _schema(text: str) -> JsonSchema:
    """JSON in the argument itself when it begins as an object does, else in the file of that name."""
    is_inline = text.lstrip().startswith("{")
    place = "The schema" if is_inline else f"The schema in {text}"
    try:
        value = json.loads(text if is_inline else _read(text, "schema"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{place} is not JSON: {error}.", param="schema") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{place} is not a JSON object.", param="schema")
    return JsonSchema(value)


def _read(name: str, what: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"The {what} {name} cannot be read: {error.strerror}.", param=what) from error
    except ValueError as error:
        raise InvalidRequest(f"The {what} {name} is not UTF-8 text.", param=what) from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
