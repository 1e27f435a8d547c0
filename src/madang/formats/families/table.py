"""Which module reads which architecture."""

from __future__ import annotations

from importlib import import_module

from madang.core.errors import UnsupportedModel
from madang.formats.gguf import GGUFFile
from madang.formats.spec import ModelDescription

_FAMILIES = {"llama": "madang.formats.families.llama"}


def supported_architectures() -> tuple[str, ...]:
    """Values of ``general.architecture`` that have a family here."""
    return tuple(_FAMILIES)


def describe_gguf(file: GGUFFile) -> ModelDescription:
    """The canonical model in a GGUF file.

    Raises UnsupportedModel for an architecture without a family or a file with something that its family does not know,
    MalformedFile for metadata or tensors that are missing or contradict each other.
    """
    module = _FAMILIES.get(file.architecture)
    if module is None:
        raise UnsupportedModel(
            f"the architecture '{file.architecture}' of {file.path.name}",
            runs_with="llama.cpp, if its version knows that architecture",
        )
    description: ModelDescription = import_module(module).describe_gguf(file)
    return description
