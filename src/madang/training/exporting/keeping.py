"""Exports under a name: models of the store, which running servers find without a restart."""

from __future__ import annotations

import shutil
from pathlib import Path

from madang.core.errors import InvalidReference, InvalidRequest, ModelNotFound
from madang.core.sampling import SamplingParams
from madang.core.writing import replacing
from madang.models import Preset, Store, StoredReference, adopt, derive, parse_reference
from madang.models.files import read_generation_config
from madang.quantization.sizing import hash_file
from madang.training.exporting.trained import Trained


def keep_gguf(store: Store, name: str, path: Path, trained: Trained) -> str:
    """A copy of the file as the model ``name``, in the place of the one that has that name; returns the whole name.

    Raises InvalidReference for what is no name, NotEnoughDisk.
    """
    config = trained.folder / "generation_config.json"
    sampling = read_generation_config(config) if config.is_file() else SamplingParams()
    reference = new_name(name)
    return adopt(store, {"model.gguf": _take_in(store, path)}, reference, Preset(sampling=sampling)).name


def keep_adapter(store: Store, name: str, path: Path, trained: Trained) -> str:
    """The adapter beside its base, which it shares with all others of it: a model of a few megabytes.

    Raises ModelNotFound where the base is no model of the store, AdapterMismatch, InvalidReference, NotEnoughDisk.
    """
    reference, base = new_name(name), base_in_store(store, trained)
    return derive(store, base, reference, Preset(adapter=_take_in(store, path))).name


def new_name(name: str) -> StoredReference:
    """What a model may be kept under. Raises InvalidReference for a place."""
    reference = parse_reference(name)
    if not isinstance(reference, StoredReference):
        raise InvalidReference(f"'{name}' is a place, not a name.", param="as", hint="Write for example mine:ko.")
    return reference


def base_in_store(store: Store, trained: Trained) -> StoredReference:
    """The model of the store that an adapter was trained on. Raises ModelNotFound."""
    hint = "Name a model that is here: --base smollm2:135m. Or keep it whole: --to gguf:Q8_0 --as NAME."
    try:
        reference = parse_reference(trained.base or "")
    except InvalidRequest:
        reference = None
    if not isinstance(reference, StoredReference) or store.find(reference) is None:
        raise ModelNotFound(f"{trained.base}, the base of the adapter {trained.name}", hint=hint)
    return reference


def _take_in(store: Store, path: Path) -> str:
    """Copy a file to where contents wait for the model that takes them; returns its digest."""
    digest = f"sha256:{hash_file(path)}"
    store.require_space(path.stat().st_size)
    with store.within_disk(path.stat().st_size), replacing(store.upload_path(digest)) as copy:
        shutil.copyfile(path, copy)
    return digest
