"""The models that madang knows by name: one table, ``catalog.toml``, checked when it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from madang.core.errors import InvalidRequest, MalformedFile, ModelNotFound
from madang.core.sampling import SamplingParams
from madang.models.fetching import Pin, Wanted
from madang.models.files import ModelFormat
from madang.models.references import (
    HubReference,
    NameReference,
    PackageReference,
    Reference,
    checked_relative,
    read_reference,
)

SCHEMA = 1
Task = Literal["chat", "embedding"]
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model. What is not known is None or empty."""

    reference: NameReference
    source: HubReference | PackageReference
    format: ModelFormat
    task: Task
    parameters: int | None = None
    context_tokens: int | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def size_bytes(self) -> int | None:
        """Bytes on disk once pulled; None when a file's size is not known."""
        pins = (self.wanted.files or {}).values()
        sizes = [pin.size_bytes for pin in pins if pin.size_bytes is not None]
        return sum(sizes) if sizes and len(sizes) == len(pins) else None


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries, by canonical name, and what a name without a tag means."""

    entries: Mapping[str, CatalogEntry]
    aliases: Mapping[str, str]

    def find(self, reference: Reference) -> CatalogEntry | None:
        """The entry of that name, or the one that comes from exactly this package or repository file."""
        if isinstance(reference, NameReference):
            return self.entries.get(str(reference))
        return next((entry for entry in self.entries.values() if entry.source == reference), None)

    def get(self, reference: NameReference) -> CatalogEntry:
        """The entry of that name. Raises ModelNotFound, with a suggestion."""
        entry = self.find(reference)
        if entry is None:
            raise ModelNotFound(str(reference), [*self.entries, *self.aliases])
        return entry


def parse_reference(text: str, catalog: Catalog | None = None) -> Reference:
    """What ``text`` refers to; a name without a tag gets the catalog's default, else ``latest``.

    ``str()`` of the result is the canonical form. Raises InvalidReference.
    """
    return read_reference(text, (catalog or load_catalog()).aliases)


@cache
def load_catalog() -> Catalog:
    """The catalog that comes with madang."""
    return read_catalog(files("madang.models").joinpath("catalog.toml").read_text(encoding="utf-8"))


def read_catalog(text: str, origin: str = "catalog.toml") -> Catalog:
    """Parse and check a catalog. Raises MalformedFile that names the entry and what is wrong with it."""
    try:
        record = tomllib.loads(text)
        if record.pop("schema", None) != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        models = _table(record.pop("models", {}), "models")
        aliases = _table(record.pop("aliases", {}), "aliases")
        _refuse_rest(record, "the top")
        entries = {name: _entry(name, _table(fields, name)) for name, fields in models.items()}
        for alias, target in aliases.items():
            _check_alias(alias, target, entries)
    except (ValueError, InvalidRequest) as error:
        raise MalformedFile(origin, str(error), hint="This is a mistake in the catalog; please report it.") from error
    return Catalog(entries, aliases)


def _entry(name: str, fields: dict[str, Any]) -> CatalogEntry:
    try:
        reference = read_reference(name, {})
        source = read_reference(_take(fields, "source", str), {})
        if not isinstance(reference, NameReference) or str(reference) != name:
            raise ValueError("its name is not name:tag in lower case")
        if not isinstance(source, HubReference | PackageReference):
            raise ValueError("its source is neither a repository nor a package")
        format = _one_of(_take(fields, "format", str), get_args(ModelFormat))
        entry = CatalogEntry(
            reference=reference,
            source=source,
            format=format,
            task=_one_of(_take(fields, "task", str), get_args(Task)),
            parameters=_take(fields, "parameters", int, None),
            context_tokens=_take(fields, "context_tokens", int, None),
            license=_take(fields, "license", str, None),
            languages=tuple(_take(fields, "languages", list, [])),
            sampling=SamplingParams.from_mapping(_take(fields, "sampling", dict, {})),
            wanted=_wanted(fields, format),
        )
        _refuse_rest(fields, "it")
    except (ValueError, InvalidRequest) as error:
        raise ValueError(f"in {name}, {error}") from error
    return entry


def _wanted(fields: dict[str, Any], format: ModelFormat) -> Wanted:
    records = _take(fields, "files", dict, None)
    pins = None if records is None else {checked_relative(path): _pin(path, pin) for path, pin in records.items()}
    if pins is not None and format == "gguf" and len(pins) != 1:
        raise ValueError(f"a gguf model is one file, not {len(pins)}")
    folder = _take(fields, "folder", str, "")
    return Wanted(
        format=format,
        folder=checked_relative(folder) if folder else "",
        files=pins,
        download_bytes=_take(fields, "download_bytes", int, None),
    )


def _pin(path: str, record: Any) -> Pin:
    fields = _table(record, path)
    pin = Pin(_take(fields, "size_bytes", int), _take(fields, "sha256", str))
    if _SHA256.fullmatch(pin.sha256 or "") is None:
        raise ValueError(f"the sha256 of {path} is not 64 hexadecimal digits")
    _refuse_rest(fields, path)
    return pin


def _check_alias(alias: str, target: Any, entries: Mapping[str, CatalogEntry]) -> None:
    if target not in entries:
        raise ValueError(f"alias {alias} means {target}, which is not in the catalog")
    reference = read_reference(f"{alias}:latest", {})
    if not isinstance(reference, NameReference) or reference.name != alias:
        raise ValueError(f"alias {alias} is not a name in lower case")


_REQUIRED = object()


def _take(fields: dict[str, Any], key: str, kind: type, default: Any = _REQUIRED) -> Any:
    """Remove and return a value of the right kind; whole numbers must be positive."""
    value = fields.pop(key, default)
    if value is _REQUIRED:
        raise ValueError(f"{key} is missing")
    if value is default:
        return value
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} is not a {_KINDS[kind]}")
    if _CHECKS.get(kind, bool)(value) or value == {} or value == []:
        return value
    raise ValueError(f"{key} is {value!r}")


_KINDS: Mapping[type, str] = {str: "text", int: "whole number", list: "list of texts", dict: "table"}
_CHECKS: Mapping[type, Callable[[Any], bool]] = {
    int: lambda value: value > 0,
    list: lambda value: all(isinstance(item, str) for item in value),
}


def _one_of(value: str, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise ValueError(f"'{value}' is none of {', '.join(known)}")
    return value


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a table")
    return dict(value)


def _refuse_rest(fields: Mapping[str, Any], where: str) -> None:
    if fields:
        raise ValueError(f"{where} has an unknown key {sorted(fields)[0]}")
