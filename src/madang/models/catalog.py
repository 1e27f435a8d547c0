"""The models that madang knows by name: one table, ``catalog.toml``, checked when it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from madang.core.errors import InvalidRequest, MalformedFile
from madang.core.sampling import SamplingParams
from madang.models.entry import FILE_TYPE, Catalog, CatalogEntry, Commercial, License, Prefixes, Shape, Task
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

SCHEMA = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_reference(text: str, catalog: Catalog | None = None) -> Reference:
    """What ``text`` refers to; a name without a tag gets the catalog's default, else ``latest``.

    ``ax:skt/A.X-4.0`` is a backend's prefix and a repository: the catalog's model from there, or the repository itself.
    ``str()`` of the result is the canonical form. Raises InvalidReference.
    """
    catalog = catalog or load_catalog()
    backend, colon, repository = text.partition(":")
    if colon and backend in catalog.backends and "/" in repository:
        hub = read_reference(f"hf:{repository}", {})
        known = (entry for entry in catalog.entries.values() if _is_from(entry, hub))
        return next((entry.reference for entry in known), hub)
    return read_reference(text, catalog.aliases)


def _is_from(entry: CatalogEntry, hub: Reference) -> bool:
    repository = hub.repo.lower() if isinstance(hub, HubReference) and hub.file is hub.revision is None else None
    return entry.repository is not None and entry.repository.lower() == repository


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
        tables = {key: _table(record.pop(key, {}), key) for key in ("models", "aliases", "backends")}
        shared = _Shared.read(record)
        _refuse_rest(record, "the top")
        entries = {name: _entry(name, _table(fields, name), shared) for name, fields in tables["models"].items()}
        for alias, target in tables["aliases"].items():
            _check_alias(alias, target, entries)
    except (ValueError, InvalidRequest) as error:
        raise MalformedFile(origin, str(error), hint="This is a mistake in the catalog; please report it.") from error
    return Catalog(entries, tables["aliases"], tables["backends"])


@dataclass(frozen=True, slots=True)
class _Shared:
    """What entries refer to."""

    licenses: Mapping[str, License]
    publishers: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, record: dict[str, Any]) -> _Shared:
        licenses = _table(record.pop("licenses", {}), "licenses")
        publishers = _table(record.pop("publishers", {}), "publishers")
        shapes = _table(record.pop("shapes", {}), "shapes")
        return cls(
            {name: _license(name, _table(fields, name)) for name, fields in licenses.items()},
            {name: tuple(types) for name, types in publishers.items()},
            {name: _table(fields, name) for name, fields in shapes.items()},
        )


def _license(name: str, fields: dict[str, Any]) -> License:
    commercial = _one_of(_take(fields, "commercial", str), get_args(Commercial))
    found = License(name, commercial, _take(fields, "reason", str))
    _refuse_rest(fields, name)
    return found


def _entry(name: str, fields: dict[str, Any], shared: _Shared) -> CatalogEntry:
    try:
        reference = read_reference(name, {})
        source = read_reference(_take(fields, "source", str), {})
        if not isinstance(reference, NameReference) or str(reference) != name:
            raise ValueError("its name is not name:tag in lower case")
        if not isinstance(source, HubReference | PackageReference):
            raise ValueError("its source is neither a repository nor a package")
        format = _one_of(_take(fields, "format", str), get_args(ModelFormat))
        shape = _shape(fields, shared.shapes)
        license = _take(fields, "license", str, None)
        entry = CatalogEntry(
            reference=reference,
            source=source,
            format=format,
            tasks=tuple(_one_of(task, get_args(Task)) for task in _take(fields, "tasks", list)),
            repository=_take(fields, "repository", str, source.repo if isinstance(source, HubReference) else None),
            family=_take(fields, "family", str, None if shape is None else shape.config["model_type"]),
            shape=shape,
            parameters=_take(fields, "parameters", int, None),
            context_tokens=_take(fields, "context_tokens", int, None),
            license=None if license is None else _known(shared.licenses, license, "license"),
            year=_take(fields, "year", int, None),
            languages=tuple(_take(fields, "languages", list, [])),
            note=_take(fields, "note", str, None),
            types=_types(fields, source, format, shared.publishers),
            prefixes=Prefixes(**_take(fields, "prefixes", dict, {})),
            sampling=SamplingParams.from_mapping(_take(fields, "sampling", dict, {})),
            wanted=_wanted(fields, format),
        )
        _refuse_rest(fields, "it")
    except (ValueError, TypeError, InvalidRequest) as error:
        raise ValueError(f"in {name}, {error}") from error
    return entry


def _shape(fields: dict[str, Any], shapes: Mapping[str, Mapping[str, Any]]) -> Shape | None:
    """Its shape with what is different in it."""
    name, config = _take(fields, "shape", str, None), _take(fields, "config", dict, {})
    if name is None:
        if config:
            raise ValueError("config changes no shape")
        return None
    settings = {**_known(shapes, name, "shape"), **config}
    parts = frozenset(settings.pop("parts", ()))
    return Shape(settings, parts)


def _types(
    fields: dict[str, Any],
    source: HubReference | PackageReference,
    format: ModelFormat,
    publishers: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """What the entry says, else its publisher; the type in its own file's name is one of them."""
    stated = tuple(_take(fields, "types", list, []))
    if format != "gguf":
        if stated:
            raise ValueError("a folder has no types")
        return ()
    if not isinstance(source, HubReference):
        return stated
    types = stated or publishers.get(source.repo.partition("/")[0], ())
    own = FILE_TYPE.search(source.file or "")
    if own is None or (types and own[1].upper() not in types):
        raise ValueError("the type in its file's name is not one of its types")
    return types or (own[1].upper(),)


def _known(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise ValueError(f"there is no {kind} {name}")
    return table[name]


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
