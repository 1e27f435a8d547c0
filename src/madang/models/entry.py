"""What the catalog says of one model, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from madang.core.errors import ModelNotFound
from madang.core.sampling import SamplingParams
from madang.models.fetching import Wanted
from madang.models.files import ModelFormat
from madang.models.references import HubReference, NameReference, PackageReference, Reference

if TYPE_CHECKING:
    from madang.formats.families.sources import Blueprint

Task = Literal["general", "coding", "math", "korean", "rag", "summarize", "embedding", "rerank"]
Kind = Literal["chat", "embedding", "rerank"]
Commercial = Literal["yes", "no", "conditions", "unknown"]
# The type in the name of a GGUF file, as its publishers write it.
FILE_TYPE = re.compile(r"(?<![A-Za-z0-9])(I?Q[2-8]_(?:K_[SML]|K|[0-9]|XS|NL)|BF16|F16)(?=\.gguf$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class License:
    """Whether what is made with a model may be sold, and why, in a few words."""

    name: str
    commercial: Commercial
    reason: str


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What an embedding model wants to see before a text that asks and before one that answers."""

    query: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """Settings in the words of config.json, and the parts it has of those that only some of its family have."""

    config: Mapping[str, Any]
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model. What is not known is None or empty.

    tasks        what it is for; the first is what it was made for
    repository   where its publisher keeps it
    family       ``model_type`` of its config.json
    shape        its settings and parts; None where they are not certain, or no family of ours computes it
    parameters   exact with a shape, else as rounded as its publisher says it
    types        that its GGUF source comes in; empty for a folder
    """

    reference: NameReference
    source: HubReference | PackageReference
    format: ModelFormat
    tasks: tuple[Task, ...]
    repository: str | None = None
    family: str | None = None
    shape: Shape | None = None
    parameters: int | None = None
    context_tokens: int | None = None
    license: License | None = None
    year: int | None = None
    languages: tuple[str, ...] = ()
    note: str | None = None
    types: tuple[str, ...] = ()
    prefixes: Prefixes = field(default_factory=Prefixes)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def task(self) -> Kind:
        """What its answers are: text, a vector, or a score."""
        return next((kind for kind in ("embedding", "rerank") if kind in self.tasks), "chat")

    @property
    def size_bytes(self) -> int | None:
        """Bytes on disk once pulled; None when a file's size is not known."""
        pins = (self.wanted.files or {}).values()
        sizes = [pin.size_bytes for pin in pins if pin.size_bytes is not None]
        return sum(sizes) if sizes and len(sizes) == len(pins) else None

    def blueprint(self) -> Blueprint | None:
        """What its spec, its parameters and its bytes follow from; None without a shape."""
        if self.shape is None:
            return None
        from madang.formats.families.blueprint import draw

        return draw(self.shape.config, self.shape.parts, str(self.reference))

    def reference_for(self, type_name: str) -> NameReference | HubReference:
        """What to pull for its file of that type: its name, where that is the one the name means."""
        path = self.source.file if isinstance(self.source, HubReference) else None
        found = None if path is None else FILE_TYPE.search(path)
        if found is None or path is None or found[1].upper() == type_name or not isinstance(self.source, HubReference):
            return self.reference
        written = type_name if found[1].isupper() else type_name.lower()
        return replace(self.source, file=path[: found.start()] + written + path[found.end() :])


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries by canonical name, what a name without a tag means, and whose models have a prefix of their own."""

    entries: Mapping[str, CatalogEntry]
    aliases: Mapping[str, str]
    backends: Mapping[str, str] = field(default_factory=dict)

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
