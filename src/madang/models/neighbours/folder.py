"""A folder of models, however it is arranged, or one file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from madang.core.errors import InvalidReference, SourceError
from madang.models.choosing import choose_files, is_whole_gguf
from madang.models.neighbours.found import FoundModel
from madang.models.references import NameReference, StoredReference, read_reference

MAX_FILES = 20_000


@dataclass(frozen=True, slots=True)
class Folder:
    """GGUF files and Hugging Face folders at or below ``path``."""

    path: Path

    @property
    def holder(self) -> str:
        """Its own name."""
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether anything lies there."""
        return self.path.exists()

    def models(self) -> Iterable[FoundModel]:
        """Named after their files and folders."""
        if self.path.is_file():
            yield gguf_model(name_of(self.path.stem), self.holder, self.path)
            return
        for path in files_below(self.path):
            if is_whole_gguf(path.name):
                yield gguf_model(name_of(path.stem), self.holder, path)
            elif path.name == "config.json":
                yield from folder_model(name_of(path.parent.name), self.holder, path.parent)

    def look_up(self, name: str, size_bytes: int, sha256: str) -> Iterable[Path]:
        """Nothing: a folder is looked into when the user says so."""
        return ()


def files_below(folder: Path) -> Iterator[Path]:
    """All files, in order, as far as they can be read."""
    with suppress(OSError):
        yield from sorted(path for path in islice(folder.rglob("*"), MAX_FILES) if path.is_file())


def gguf_model(reference: StoredReference, holder: str, path: Path, name: str = "model.gguf") -> FoundModel:
    """A model of one file."""
    return FoundModel(reference, holder, "gguf", path, ((name, path),), f"file:{path}")


def folder_model(
    reference: StoredReference, holder: str, folder: Path, source: str | None = None
) -> Iterator[FoundModel]:
    """The model of safetensors that lies in a folder; one that is not whole says what is wrong with it."""
    names = [path.relative_to(folder).as_posix() for path in files_below(folder)]
    weights = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    if not weights:
        return
    problem = None
    try:
        chosen = choose_files(str(folder), [name for name in names if not name.lower().endswith(".gguf")]).names
    except (SourceError, InvalidReference) as error:
        chosen, problem = tuple(weights), error.message
    files = tuple((name, folder / name) for name in chosen)
    yield FoundModel(reference, holder, "huggingface", folder, files, source or f"file:{folder}", problem=problem)


def name_of(text: str) -> StoredReference:
    """A name for the store, as close to ``text`` as names can be."""
    word = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:90].rstrip("._-") or "model"
    with suppress(InvalidReference):
        reference = read_reference(f"{word}:latest", {})
        if isinstance(reference, NameReference):
            return reference
    return NameReference(f"model-{word}"[:90].rstrip("._-"))
