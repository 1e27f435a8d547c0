"""Models of other programs, used where they lie: nothing is copied, moved or ever deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from madang.core.errors import InvalidRequest, SourceError, UnsupportedModel
from madang.models.files import ModelFiles
from madang.models.manifest import Manifest, ManifestFile
from madang.models.neighbours.found import FoundModel
from madang.models.references import StoredReference
from madang.models.store import Store


def import_model(store: Store, found: FoundModel, name: StoredReference | None = None) -> ModelFiles:
    """Take a model into the store by reference, as ``name`` or under its own.

    Raises SourceError for one that lacks a shard or its tokenizer, MalformedFile for one that is damaged or cut off,
    InvalidRequest when another model has that name.
    """
    with store.lock(name or found.reference):
        return take_in(store, found, name or found.reference)


def take_in(store: Store, found: FoundModel, reference: StoredReference) -> ModelFiles:
    """The same for a caller that holds the model's lock."""
    if found.problem is not None:
        raise SourceError(found.problem, hint=f"Let {found.holder} fetch it again, or pull it: madang pull {reference}")
    check_headers(found.as_files())
    files = tuple(_by_path(name, path) for name, path in found.files)
    here = store.find(reference)
    if here is not None and store.show(reference).files != files:
        raise InvalidRequest(
            f"There is another model named {reference} already.",
            param="name",
            hint=f"Import it under another name with --as, or remove that one: madang rm {reference}",
        )
    manifest = Manifest(
        reference=reference,
        format=found.format,
        source=found.source,
        files=files,
        modified=datetime.now(UTC).replace(microsecond=0),
        sampling=found.sampling,
        preset=found.preset,
    )
    return here or store.commit(manifest)


def check_headers(files: ModelFiles) -> None:
    """Compare what the headers promise with what is there. Raises MalformedFile, ModelNotFound."""
    from madang.formats.folder import read_folder
    from madang.formats.gguf import read_gguf

    try:
        if files.format == "gguf":
            read_gguf(files.path)
        else:
            read_folder(files.path)
    except UnsupportedModel:
        return  # an engine that knows more may run it


def _by_path(name: str, path: Path) -> ManifestFile:
    status = path.stat()
    return ManifestFile(name, status.st_size, path=str(path.absolute()), modified_ns=status.st_mtime_ns)
