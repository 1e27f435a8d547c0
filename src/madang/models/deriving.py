"""New models from what is here already: under another name, with a preset of their own, or from uploaded files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from madang.core.errors import InvalidRequest, MalformedFile, ModelNotFound, SourceError, UnsupportedModel
from madang.core.sampling import SamplingParams
from madang.models.choosing import choose_files
from madang.models.fetching import StagedFile
from madang.models.files import ModelFiles, read_generation_config
from madang.models.manifest import Manifest, ManifestFile
from madang.models.preset import Preset
from madang.models.references import StoredReference, checked_relative
from madang.models.store import Store

MAX_FILES = 512


def derive(store: Store, parent: StoredReference, name: StoredReference, preset: Preset) -> ModelFiles:
    """The files of ``parent`` under another name, with what ``preset`` adds; what it leaves open is the parent's.

    Raises ModelNotFound, MalformedFile, and for an adapter InvalidRequest when it is not here, AdapterMismatch.
    """
    manifest = store.show(parent)
    staged = () if preset.adapter is None else (_checked_adapter(store, parent, preset.adapter),)
    inherited = manifest.preset or Preset()
    whole = replace(preset.over(inherited), parent=str(parent))
    return store.commit(replace(manifest, reference=name, preset=whole, modified=_now()), staged)


def copy_model(store: Store, source: StoredReference, name: StoredReference) -> ModelFiles:
    """The same model under another name; the files are shared. Raises ModelNotFound, MalformedFile."""
    return store.commit(replace(store.show(source), reference=name))


def adopt(store: Store, files: Mapping[str, str], name: StoredReference, preset: Preset) -> ModelFiles:
    """A model of content that is in the store by digest (``files`` is file name -> digest), once it was checked.

    Raises InvalidRequest for content that is not here or is no model.
    """
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"{len(files)} files are given, at most {MAX_FILES}.", param="files")
    paths = {checked_relative(path): digest for path, digest in files.items()}
    try:
        chosen = choose_files(str(name), list(paths))
    except SourceError as error:  # here the client is the source
        raise InvalidRequest(error.message, param="files", hint=error.hint) from error
    staged = tuple(_staged(store, file, paths[path]) for file, path in zip(chosen.names, chosen.paths, strict=True))
    sampling = SamplingParams()
    if chosen.format == "gguf":
        _check_gguf(staged[0])
    else:
        configs = [file.path for file in staged if file.name == "generation_config.json"]
        sampling = _checked_config(configs[0]) if configs else sampling
    manifest = Manifest(
        reference=name,
        format=chosen.format,
        source="uploaded",
        files=tuple(ManifestFile(file.name, file.size_bytes, f"sha256:{file.sha256}") for file in staged),
        modified=_now(),
        sampling=sampling,
        preset=None if preset == Preset() else preset,
    )
    return store.commit(manifest, staged)


def make_model(
    store: Store, name: StoredReference, parent: ModelFiles, source: str, write: Callable[[Path], StagedFile]
) -> ModelFiles:
    """A model of one new GGUF file, in the place of the one that has that name; sampling defaults are ``parent``'s.

    write    makes the file at the path that it is given, whole or not at all
    source   what the store remembers of where it came from

    Raises what ``write`` raises; the store is as it was then.
    """
    with store.lock(name):
        folder = store.partial_path(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            staged = write(folder / "model.gguf")
            manifest = Manifest(
                reference=name,
                format="gguf",
                source=source,
                files=(ManifestFile(staged.name, staged.size_bytes, f"sha256:{staged.sha256}"),),
                modified=_now(),
                sampling=parent.sampling_defaults,
            )
            return store.commit(manifest, (staged,))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def make_folder_model(
    store: Store, name: StoredReference, parent: ModelFiles, source: str, write: Callable[[Path], object]
) -> ModelFiles:
    """The same for a model of a new Hugging Face folder, which ``write`` makes at the path that it is given."""
    with store.lock(name):
        workspace = store.partial_path(name)
        workspace.mkdir(parents=True, exist_ok=True)
        try:
            folder = workspace / "made"
            write(folder)
            staged = tuple(_hashed(folder, path) for path in sorted(folder.rglob("*")) if path.is_file())
            manifest = Manifest(
                reference=name,
                format="huggingface",
                source=source,
                files=tuple(ManifestFile(file.name, file.size_bytes, f"sha256:{file.sha256}") for file in staged),
                modified=_now(),
                sampling=parent.sampling_defaults,
            )
            return store.commit(manifest, staged)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def _hashed(folder: Path, path: Path) -> StagedFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StagedFile(path.relative_to(folder).as_posix(), path, path.stat().st_size, digest)


def _checked_adapter(store: Store, parent: StoredReference, digest: str) -> StagedFile:
    """Compared with the model that it is for, now rather than at the first answer."""
    from madang.formats.adapters import read_adapter
    from madang.formats.families import describe_model

    staged, files = _staged(store, "adapter", digest), store.find(parent)
    if files is None:
        raise ModelNotFound(str(parent))
    try:
        read_adapter(staged.path, describe_model(files.path, files.format), "adapter")
    except MalformedFile as error:
        raise InvalidRequest(f"The adapter is not a valid file: {error.problem}.", param="adapters") from error
    return staged


def _check_gguf(file: StagedFile) -> None:
    """Whoever uploaded it learns what is wrong with it, and not where it lies."""
    from madang.formats.gguf import read_gguf

    try:
        read_gguf(file.path)
    except MalformedFile as error:
        raise InvalidRequest(f"{file.name} is not a valid model file: {error.problem}.", param="files") from error
    except UnsupportedModel as error:
        raise InvalidRequest(f"{file.name} cannot be used: {error.what}.", param="files") from error


def _checked_config(path: Path) -> SamplingParams:
    try:
        return read_generation_config(path)
    except MalformedFile as error:
        raise InvalidRequest(f"generation_config.json is damaged: {error.problem}.", param="files") from error


def _staged(store: Store, name: str, digest: str) -> StagedFile:
    path = store.find_content(digest)
    if path is None:
        raise InvalidRequest(f"There is no content {digest[:80]} here; upload it first.", param="files")
    return StagedFile(name, path, path.stat().st_size, store.blob_path(digest).name.removeprefix("sha256-"))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
