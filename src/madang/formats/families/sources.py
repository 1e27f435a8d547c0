"""The two kinds of source that a family reads, and how it refuses what it does not compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from madang.core.errors import FOLDER_ENGINE, GGUF_ENGINE, UnsupportedModel
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile

Source: TypeAlias = GGUFFile | ModelFolder


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint(ModelFolder):
    """A folder that is not there: its settings, and which of the parts that can be missing it has (blueprint.py)."""

    parts: frozenset[str] = field(default=frozenset())


def unsupported(source: Source, what: str, *, certain: bool = True) -> UnsupportedModel:
    """The error for something in this source, with the engine that would run it, or might if not ``certain``."""
    engine, name = (
        (FOLDER_ENGINE, source.folder.name) if isinstance(source, ModelFolder) else (GGUF_ENGINE, source.path.name)
    )
    return UnsupportedModel(f"{what} of {name}", runs_with=engine if certain else f"{engine}, if it knows this one")


def require_neutral(source: Source, neutral: dict[str, tuple[float, ...]]) -> None:
    """UnsupportedModel for a number that would change the result and that the family does not compute."""
    for key, values in neutral.items():
        if source.get_float(key, values[0]) not in values:
            raise unsupported(source, f"the setting '{key}'")


def require_off(source: Source, *keys: str) -> None:
    """The same for settings that are true or false."""
    for key in keys:
        if source.get_bool(key, False):
            raise unsupported(source, f"the setting '{key}'")
