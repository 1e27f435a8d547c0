"""New models from what is here already: under another name, with a preset of their own, or from uploaded files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from madang.core.errors import InvalidRequest, MalformedFile, UnsupportedModel
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

    Raises ModelNotFound, MalformedFile.
    """
    manifest = store.show(parent)
    inherited = manifest.preset or Preset()
    whole = replace(preset.over(inherited), parent=str(parent))
    return store.commit(replace(manifest, reference=name, preset=whole, modified=_now()))


def copy_model(store: Store, source: StoredReference, name: StoredReference) -> ModelFiles:
    """The same model under another name; the files are shared. Raises ModelNotFound, MalformedFile."""
    return store.commit(replace(store.show(source), reference=name))


def adopt(store: Store, files: Mapping[str, str], name: StoredReference, preset: Preset) -> ModelFiles:
    """A model of content that is in the store by digest (``files`` is file name -> digest), once it was checked.

    Raises InvalidRequest for content that is not here or is no model, MalformedFile for a damaged generation config.
    """
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"{len(files)} files are given, at most {MAX_FILES}.", param="files")
    paths = {checked_relative(path): digest for path, digest in files.items()}
    chosen = choose_files(str(name), list(paths))
    staged = tuple(_staged(store, file, paths[path]) for file, path in zip(chosen.names, chosen.paths, strict=True))
    sampling = SamplingParams()
    if chosen.format == "gguf":
        _check_gguf(staged[0])
    else:
        configs = [file.path for file in staged if file.name == "generation_config.json"]
        sampling = read_generation_config(configs[0]) if configs else sampling
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


def _check_gguf(file: StagedFile) -> None:
    """Whoever uploaded it learns what is wrong with it, and not where it lies."""
    from madang.formats.gguf import read_gguf

    try:
        read_gguf(file.path)
    except MalformedFile as error:
        raise InvalidRequest(f"{file.name} is not a valid model file: {error.problem}.", param="files") from error
    except UnsupportedModel as error:
        raise InvalidRequest(f"{file.name} cannot be used: {error.what}.", param="files") from error


def _staged(store: Store, name: str, digest: str) -> StagedFile:
    path = store.find_content(digest)
    if path is None:
        raise InvalidRequest(f"There is no content {digest[:80]} here; upload it first.", param="files")
    return StagedFile(name, path, path.stat().st_size, store.blob_path(digest).name.removeprefix("sha256-"))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
