"""neighbours: models that other programs keep on this machine, used where they lie. Nothing here ever writes.

One file per program. Where it keeps its models is told by its own environment variables and settings, which the caller
hands over; see :func:`find_neighbours`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from madang.models.neighbours.folder import Folder
from madang.models.neighbours.found import FoundModel, Neighbour
from madang.models.neighbours.huggingface_cache import HuggingFaceCache
from madang.models.neighbours.lm_studio import LMStudio
from madang.models.neighbours.ollama_store import OllamaStore

__all__ = ["Folder", "FoundModel", "HuggingFaceCache", "LMStudio", "Neighbour", "OllamaStore", "find_neighbours"]

_OF_LINUX_SERVICE = Path("/usr/share/ollama/.ollama/models")


def find_neighbours(environment: Mapping[str, str]) -> tuple[Neighbour, ...]:
    """The stores that exist, by what ``environment`` says: HF_HUB_CACHE, HF_HOME, OLLAMA_MODELS, HOME …"""
    home = next((Path(environment[name]) for name in ("HOME", "USERPROFILE") if environment.get(name)), None)
    neighbours: list[Neighbour] = []
    if (cache := _hub_cache(environment, home)) is not None:
        neighbours.append(HuggingFaceCache(cache))
    if environment.get("OLLAMA_MODELS"):
        neighbours.append(OllamaStore(Path(environment["OLLAMA_MODELS"]).expanduser()))
    elif home is not None:
        neighbours += [OllamaStore(home / ".ollama" / "models"), OllamaStore(_OF_LINUX_SERVICE)]
    if home is not None:
        neighbours.append(LMStudio.of_user(home))
    return tuple(neighbour for neighbour in neighbours if neighbour.exists)


def _hub_cache(environment: Mapping[str, str], home: Path | None) -> Path | None:
    for name, below in (("HF_HUB_CACHE", "."), ("HUGGINGFACE_HUB_CACHE", "."), ("HF_HOME", "hub")):
        if environment.get(name):
            return Path(environment[name]).expanduser() / below
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"]).expanduser() / "huggingface" / "hub"
    return None if home is None else home / ".cache" / "huggingface" / "hub"
