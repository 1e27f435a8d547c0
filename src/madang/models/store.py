"""Models on disk, addressed by content.

    <home>/models/blobs/sha256-<64 hex digits>        file contents, shared by all models that have them
    <home>/models/manifests/<name>/<tag>.json         which blobs make up a model
    <home>/models/folders/<name>/<tag>/               a view for formats that need file names: links to blobs
    <home>/models/partial/<token>/                    what an unfinished pull has so far
    <home>/models/locks/<token>.lock                  one per model, and one for the store

A manifest is written after its blobs, in one rename; whoever can read it has the whole model.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from madang.core.errors import FileLost, InvalidReference, MalformedFile, ModelNotFound
from madang.core.locking import Busy, file_lock
from madang.core.writing import free_disk_bytes, require_disk, sync, within_disk, write_atomically
from madang.models.digests import blob_name
from madang.models.fetching import StagedFile
from madang.models.files import ModelFiles
from madang.models.manifest import Manifest, ManifestFile, read_manifest
from madang.models.preset import Preset
from madang.models.references import FileReference, Reference, StoredReference, checked_relative
from madang.models.sources.file import open_in_place

_COMPONENT = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9._%@~+-]{0,199}")
ABANDONED_S = 7 * 24 * 3600
_log = logging.getLogger("madang.models")


class Store:
    """The models below ``home``. Reading creates nothing; every write is atomic and safe beside other processes.

    ``free_bytes`` tells how much disk is left; tests pass a full one.
    """

    def __init__(self, home: Path, *, free_bytes: Callable[[Path], int] = free_disk_bytes) -> None:
        self.root = home.absolute() / "models"
        self._free_bytes = free_bytes
        self._told: set[Path] = set()

    # -- reading

    def find(self, reference: Reference) -> ModelFiles | None:
        """The model, or None when it is not here or not complete.

        Raises MalformedFile when its manifest, or the file that a ``file:`` reference names, is damaged.
        """
        if isinstance(reference, FileReference):
            return open_in_place(reference) if reference.path.exists() else None
        path = self.manifest_path(reference)
        return self._files(read_manifest(path)) if path.is_file() else None

    def lost(self, reference: Reference) -> FileLost | None:
        """What is wrong with a model that uses a file of another program; None when nothing is.

        Raises MalformedFile when its manifest is damaged.
        """
        if isinstance(reference, FileReference) or not self.manifest_path(reference).is_file():
            return None
        for file in read_manifest(self.manifest_path(reference)).files:
            if file.path is not None and not self._is_there(file):
                what = "was changed" if Path(file.path).exists() else "is gone"
                return FileLost(str(reference), file.path, what)
        return None

    def list(self) -> list[ModelFiles]:
        """All complete models, by name. A damaged manifest hides its own model only, with one warning in the log."""
        found = []
        for path in self._manifest_paths():
            try:
                found.append(self._files(read_manifest(path)))
            except MalformedFile as error:
                if path not in self._told:
                    self._told.add(path)
                    _log.warning("%s %s", error.message, error.hint)
            except FileNotFoundError:
                continue  # removed meanwhile
        return sorted((files for files in found if files is not None), key=lambda files: files.name)

    def show(self, reference: StoredReference) -> Manifest:
        """What the store remembers of a model. Raises ModelNotFound and MalformedFile."""
        path = self.manifest_path(reference)
        if not path.is_file():
            raise ModelNotFound(str(reference), [files.name for files in self.list()])
        return read_manifest(path)

    def preset(self, reference: StoredReference) -> Preset | None:
        """What a model adds to every conversation; None for most, and for one that is not here.

        Raises MalformedFile when its manifest is damaged.
        """
        path = self.manifest_path(reference)
        return read_manifest(path).preset if path.is_file() else None

    # -- writing

    def commit(self, manifest: Manifest, staged: Sequence[StagedFile] = ()) -> ModelFiles:
        """Take checked files in as blobs, then write the manifest; the model appears whole or not at all.

        Files of the manifest that have a path instead of a digest stay where they are.
        """
        with self.within_disk():
            self._take(manifest, staged)
        files = self._files(manifest)
        if files is None:
            raise MalformedFile(self.manifest_path(manifest.reference), "it names files that are not there")
        return files

    def _take(self, manifest: Manifest, staged: Sequence[StagedFile]) -> None:
        for file in staged:
            sync(file.path)
        with self._store_lock():
            for file in staged:
                blob = self.blob_path(f"sha256:{file.sha256}")
                blob.parent.mkdir(parents=True, exist_ok=True)
                if not blob.is_file() or blob.stat().st_size != file.size_bytes:
                    file.path.replace(blob)
            if manifest.format == "huggingface":
                self._build_folder(manifest)
            write_atomically(self.manifest_path(manifest.reference), manifest.to_json())

    def remove(self, reference: StoredReference) -> int:
        """Forget a model, its unfinished pull, and every blob that no model needs any more.

        Returns the bytes freed. Raises ModelNotFound when there is nothing of that name.
        """
        manifest, partial = self.manifest_path(reference), self.partial_path(reference)
        if not manifest.exists() and not partial.exists():
            raise ModelNotFound(str(reference), [files.name for files in self.list()])
        with self.lock(reference), self._store_lock():
            folder = self.folder_path(reference)
            manifest.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            _prune(manifest.parent, self.root)
            _prune(folder.parent, self.root)
            return _remove_tree(partial) + self._collect_garbage()

    def lock(self, reference: StoredReference, *, wait: bool = True) -> AbstractContextManager[None]:
        """Held by whoever fetches or removes this model; the next one waits, or gets Busy without ``wait``."""
        return file_lock(self._inside("locks", f"{_token(reference)}.lock"), wait=wait)

    def clean_abandoned(self, *, older_than_s: float = ABANDONED_S) -> int:
        """Delete what interrupted pulls left behind, if nobody works on it and nobody did for so long.

        Returns the bytes freed.
        """
        freed_bytes = 0
        for folder in self.root.joinpath("partial").glob("*"):
            with suppress(Busy), file_lock(self._inside("locks", f"{folder.name}.lock"), wait=False):
                newest_s = max((path.stat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
                if time.time() - newest_s >= older_than_s:
                    freed_bytes += _remove_tree(folder)
        return freed_bytes

    def free_bytes(self) -> int:
        """Disk space left for models."""
        return self._free_bytes(self.root)

    def require_space(self, n_bytes: int) -> None:
        """Raise NotEnoughDisk when ``n_bytes`` more would not fit."""
        require_disk(self.root, n_bytes, self._free_bytes)

    def within_disk(self, n_bytes: int = 1) -> AbstractContextManager[None]:
        """A block that writes ``n_bytes``; raises NotEnoughDisk when the disk turns out to be full meanwhile."""
        return within_disk(self.root, n_bytes, self._free_bytes)

    # -- paths

    def blob_path(self, digest: str) -> Path:
        """Where the content with this digest lies. Raises InvalidReference when it is not a sha256 digest."""
        return self._inside("blobs", blob_name(digest))

    def manifest_path(self, reference: StoredReference) -> Path:
        """Where the manifest of this model lies."""
        *folders, name = reference.key
        return self._inside("manifests", *folders, f"{name}.json")

    def folder_path(self, reference: StoredReference) -> Path:
        """Where the files of this model appear under their own names."""
        return self._inside("folders", *reference.key)

    def partial_path(self, reference: StoredReference) -> Path:
        """Where a pull of this model keeps what is unfinished."""
        return self._inside("partial", _token(reference))

    def upload_path(self, digest: str) -> Path:
        """Where content with this digest waits until a model takes it; what nobody takes is cleaned up like a pull.

        Raises InvalidReference when it is not a sha256 digest.
        """
        return self._inside("partial", self.blob_path(digest).name, "content")

    def find_content(self, digest: str) -> Path | None:
        """A blob or an upload with this digest, or None. Raises InvalidReference when it is not a sha256 digest."""
        paths = (self.blob_path(digest), self.upload_path(digest))
        return next((path for path in paths if path.is_file()), None)

    def _inside(self, *components: str) -> Path:
        """The only place where names become paths. Raises InvalidReference for whatever could leave the root."""
        for component in components:
            if not _COMPONENT.fullmatch(component) or component.endswith("."):
                raise InvalidReference(f"'{component}' cannot be a file name in the store.", param="model")
        return self.root.joinpath(*components)

    # -- inside

    def _store_lock(self) -> AbstractContextManager[None]:
        return file_lock(self._inside("locks", "store.lock"))

    def _manifest_paths(self) -> Iterator[Path]:
        for path in sorted((self.root / "manifests").rglob("*.json")):
            if not path.name.startswith("."):
                yield path

    def _files(self, manifest: Manifest) -> ModelFiles | None:
        if any(not self._is_there(file) for file in manifest.files):
            return None
        if manifest.format == "gguf":
            path = self._content(manifest.files[0])
        else:
            path = self.folder_path(manifest.reference)
            if not all((path / file.name).is_file() for file in manifest.files):
                return None
        return ModelFiles(
            name=str(manifest.reference),
            format=manifest.format,
            path=path,
            size_bytes=manifest.size_bytes,
            source=manifest.source,
            modified=manifest.modified,
            sampling_defaults=manifest.sampling,
        )

    def _content(self, file: ManifestFile) -> Path:
        return self.blob_path(file.digest) if file.digest is not None else Path(file.path or "")

    def _is_there(self, file: ManifestFile) -> bool:
        try:
            status = self._content(file).stat()
        except OSError:
            return False
        unchanged = file.modified_ns is None or file.modified_ns == status.st_mtime_ns
        return unchanged and status.st_size == file.size_bytes

    def _build_folder(self, manifest: Manifest) -> None:
        folder = self.folder_path(manifest.reference)
        fresh = self.partial_path(manifest.reference) / "folder"
        shutil.rmtree(fresh, ignore_errors=True)
        for file in manifest.files:
            link = fresh / checked_relative(file.name)
            link.parent.mkdir(parents=True, exist_ok=True)
            _link(self._content(file), link, symbolic=file.path is not None)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(folder)

    def _collect_garbage(self) -> int:
        try:
            needed = {digest for path in self._manifest_paths() for digest in read_manifest(path).digests}
        except MalformedFile:
            return 0  # a manifest that cannot be read may need any of the blobs
        paths = {self.blob_path(digest) for digest in needed}
        freed_bytes = 0
        for blob in self.root.joinpath("blobs").glob("sha256-*"):
            if blob not in paths:
                freed_bytes += blob.stat().st_size
                blob.unlink()
        return freed_bytes


def _token(reference: StoredReference) -> str:
    return hashlib.sha256(str(reference).encode()).hexdigest()[:32]


def _remove_tree(folder: Path) -> int:
    freed_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return freed_bytes


def _link(target: Path, link: Path, *, symbolic: bool) -> None:
    """A hard link shares the content and cannot dangle; some file systems have no links at all.

    To files of others it is a ``symbolic`` one, or removing them there would free nothing.
    """
    if symbolic:
        with suppress(OSError):  # Windows allows them to some users only
            link.symlink_to(target)
            return
    try:
        link.hardlink_to(target)
    except OSError:
        shutil.copyfile(target, link)


def _prune(folder: Path, root: Path) -> None:
    """Remove folders that became empty, up to but without ``root``'s own children."""
    while folder.parent not in (root, root.parent, folder):
        with suppress(OSError):
            folder.rmdir()
        folder = folder.parent
