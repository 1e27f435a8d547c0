"""The cache that huggingface_hub and all that builds on it share.

models--<org>--<repo>/refs/<revision>        a commit
models--<org>--<repo>/snapshots/<commit>/    the files under their names, links to blobs
models--<org>--<repo>/blobs/<id>             the contents; of large files the id is the sha256
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from madang.core.errors import InvalidReference
from madang.models.choosing import is_whole_gguf
from madang.models.neighbours.folder import files_below, folder_model, gguf_model, name_of
from madang.models.neighbours.found import FoundModel
from madang.models.references import HubReference, StoredReference, read_reference

_PREFIX = "models--"
MAX_REF_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class HuggingFaceCache:
    """``folder`` is what HF_HUB_CACHE means."""

    folder: Path
    holder: str = "the Hugging Face cache"

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self.folder.is_dir()

    def models(self) -> Iterable[FoundModel]:
        """Of each repository what ``main`` is; where that is not known, every commit that is there."""
        with suppress(OSError):
            for repository in sorted(self.folder.glob(f"{_PREFIX}*")):
                for snapshot, revision in _snapshots(repository):
                    yield from self._models(
                        repository.name.removeprefix(_PREFIX).replace("--", "/"), snapshot, revision
                    )

    def look_up(self, name: str, size_bytes: int, sha256: str) -> Iterable[Path]:
        """Blobs of large files are named after their content."""
        return self.folder.glob(f"{_PREFIX}*/blobs/{sha256}")

    def _models(self, repo: str, snapshot: Path, revision: str) -> Iterator[FoundModel]:
        for path in files_below(snapshot):
            if is_whole_gguf(path.name):
                name = path.relative_to(snapshot).as_posix()
                yield gguf_model(_named(repo, f"/{name}", revision), self.holder, path, path.name)
        if (snapshot / "config.json").is_file():
            yield from folder_model(_named(repo, "", revision), self.holder, snapshot, f"hf:{repo}@{snapshot.name}")


def _snapshots(repository: Path) -> Iterator[tuple[Path, str]]:
    """Folders with what a reference to them ends with."""
    main = repository / "refs" / "main"
    if main.is_file() and main.stat().st_size <= MAX_REF_CHARACTERS:
        snapshot = repository / "snapshots" / main.read_text(encoding="utf-8").strip()
        if snapshot.is_dir():
            yield snapshot, ""
            return
    for snapshot in sorted((repository / "snapshots").glob("*")):
        yield snapshot, f"@{snapshot.name}"


def _named(repo: str, file: str, revision: str) -> StoredReference:
    """Some old repositories have no owner, and some file names cannot be written in a reference."""
    with suppress(InvalidReference):
        reference = read_reference(f"hf:{repo}{file}{revision}", {})
        if isinstance(reference, HubReference):
            return reference
    return name_of(Path(file).stem or repo.rpartition("/")[2])
