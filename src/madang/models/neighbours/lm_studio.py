"""The models of LM Studio: <publisher>/<repository>/<file>, as on the hub that they come from.

Where that folder is, its settings.json says (``downloadsFolder``); where those are, ``.lmstudio-home-pointer`` in the
user's home folder.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from madang.core.errors import InvalidReference
from madang.models.choosing import is_whole_gguf
from madang.models.neighbours.folder import folder_model, gguf_model, name_of
from madang.models.neighbours.found import FoundModel
from madang.models.references import HubReference, StoredReference, read_reference

MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LMStudio:
    """``folder`` is its models folder."""

    folder: Path
    holder: str = "LM Studio"

    @classmethod
    def of_user(cls, home: Path) -> LMStudio:
        """By its own settings, else where it puts models by itself, now or in its older versions."""
        own = next((path for path in _own_folders(home) if path.is_dir()), home / ".lmstudio")
        settings = own / "settings.json"
        with suppress(OSError, ValueError):
            if settings.stat().st_size <= MAX_SETTINGS_BYTES:
                record = json.loads(settings.read_text(encoding="utf-8"))
                folder = record.get("downloadsFolder") if isinstance(record, dict) else None
                if isinstance(folder, str) and folder:
                    return cls(Path(folder))
        return cls(own / "models")

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self.folder.is_dir()

    def models(self) -> Iterable[FoundModel]:
        """GGUF files and folders of safetensors."""
        with suppress(OSError):
            for repository in sorted(self.folder.glob("*/*/")):
                repo = f"{repository.parent.name}/{repository.name}"
                for path in sorted(repository.glob("*.gguf")):
                    if is_whole_gguf(path.name):
                        yield gguf_model(_named(repo, path.name), self.holder, path, path.name)
                if (repository / "config.json").is_file():
                    yield from folder_model(_named(repo, None), self.holder, repository)

    def look_up(self, name: str, size_bytes: int, sha256: str) -> Iterable[Path]:
        """Nothing but the name is known before it is read, so only files of that name and size are."""
        for path in self.folder.glob(f"*/*/{glob.escape(name.rpartition('/')[2])}"):
            with suppress(OSError):
                if path.stat().st_size == size_bytes:
                    yield path


def _own_folders(home: Path) -> Iterable[Path]:
    with suppress(OSError, UnicodeDecodeError, ValueError):
        yield Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip())
    yield home / ".lmstudio"
    yield home / ".cache" / "lm-studio"


def _named(repo: str, file: str | None) -> StoredReference:
    with suppress(InvalidReference):
        reference = read_reference(f"hf:{repo}{'' if file is None else f'/{file}'}", {})
        if isinstance(reference, HubReference):
            return reference
    return name_of(Path(file).stem if file is not None else repo.rpartition("/")[2])
