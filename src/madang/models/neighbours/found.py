"""What a neighbour tells of its models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from madang.core.sampling import SamplingParams
from madang.models.files import ModelFiles, ModelFormat
from madang.models.preset import Preset
from madang.models.references import StoredReference


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of another program.

    reference   the name that it gets here: the one under which madang would pull the same
    holder      whose it is, for sentences
    path        "gguf": the file. "huggingface": the folder
    files       name inside the model -> where it lies; a GGUF model has one
    problem     why it is not a whole model
    """

    reference: StoredReference
    holder: str
    format: ModelFormat
    path: Path
    files: tuple[tuple[str, Path], ...]
    source: str
    sampling: SamplingParams = field(default_factory=SamplingParams)
    preset: Preset | None = None
    problem: str | None = None

    def as_files(self) -> ModelFiles:
        """As engines would receive it. Raises OSError when it went away."""
        statuses = [path.stat() for _, path in self.files]
        return ModelFiles(
            name=str(self.reference),
            format=self.format,
            path=self.path,
            size_bytes=sum(status.st_size for status in statuses),
            source=self.source,
            modified=datetime.fromtimestamp(max(status.st_mtime for status in statuses), tz=UTC),
            sampling_defaults=self.sampling,
        )


class Neighbour(Protocol):
    """A store of another program. What cannot be read there is passed over."""

    @property
    def holder(self) -> str:
        """Whose it is, for sentences."""

    @property
    def exists(self) -> bool:
        """Whether there is one on this machine."""

    def models(self) -> Iterable[FoundModel]:
        """What could be used from here."""

    def look_up(self, name: str, size_bytes: int, sha256: str) -> Iterable[Path]:
        """Files that may have that content."""
