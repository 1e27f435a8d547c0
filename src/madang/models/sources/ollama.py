"""Models of the Ollama registry: one question for the manifest, then each layer by its digest.

The registry speaks the OCI distribution protocol. A layer's media type says what it is; of a model's layers, the
weights become its file, and template, system prompt, parameters, first messages and licence its preset. A partial file
is named after its digest, so an interrupted pull goes on where it stopped, and never with other content.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from madang.core.errors import InvalidRequest, ModelNotFound, NetworkUnavailable, SourceError
from madang.core.messages import Message
from madang.core.sampling import SamplingParams
from madang.models.fetching import CHUNK_BYTES, Fetched, Progress, StagedFile, Wanted, Workspace, check_sha256
from madang.models.parameters import KNOWN, Parameters, read_parameters
from madang.models.preset import Preset
from madang.models.references import OllamaReference

REGISTRY = "https://registry.ollama.ai"
TIMEOUT_S = 30.0
RETRY_S = 1.0
MAX_VAIN_ATTEMPTS = 5
MAX_TEXT_BYTES = 1 << 20  # of a manifest, and of each layer that is not weights
MAX_LAYERS = 64

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.ollama.image."
_TEXTS = ("template", "system", "license", "params", "messages")
_NOT_NEEDED = ("projector",)  # for images, which madang does not read
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._/-]*)?")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class _Layer:
    kind: str
    sha256: str
    size_bytes: int


class OllamaSource:
    """``registry`` is another server that speaks the same protocol: a mirror, or the one of a closed network.

    Raises InvalidRequest for what is not the address of one.
    """

    def __init__(self, registry: str = REGISTRY) -> None:
        if not _ADDRESS.fullmatch(registry):
            raise InvalidRequest(
                f"'{registry}' is not the address of a registry.",
                param="ollama_registry",
                hint="Write https://registry.example.org, without a name or password.",
            )
        self._registry = registry.rstrip("/")
        self._opener = urllib.request.build_opener(_OwnSchemeOnly(urlsplit(registry).scheme))

    def fetch(self, reference: OllamaReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Fetch the weights and what comes with them.

        Raises NetworkUnavailable (partial files stay and are resumed), ModelNotFound, SourceError (refused, damaged, or
        not a whole model), ChecksumMismatch, NotEnoughDisk.
        """
        with self._errors_of(reference):
            layers = self._layers(reference)
        weights = _weights(reference, layers)
        partial = workspace.folder / weights.sha256
        workspace.require_space(weights.size_bytes - _size_bytes(partial))
        workspace.folder.mkdir(parents=True, exist_ok=True)
        progress.started(weights.size_bytes)
        with self._errors_of(reference):
            texts: dict[str, str] = {}
            for layer in layers:
                if layer.kind in _TEXTS:  # a model may come under several licences
                    texts[layer.kind] = texts.get(layer.kind, "") + self._text(reference, layer)
            self._download(reference, weights, partial, progress)
        _check(reference, weights, partial)
        preset, sampling = _preset(reference, texts)
        staged = StagedFile("model.gguf", partial, weights.size_bytes, weights.sha256)
        return Fetched("gguf", (staged,), f"{reference}@sha256:{weights.sha256}", sampling, preset)

    def weights_url(self, reference: OllamaReference) -> str:
        """Where the weights can be read. Raises as ``fetch``."""
        with self._errors_of(reference):
            weights = _weights(reference, self._layers(reference))
        return f"{self._url(reference)}/blobs/sha256:{weights.sha256}"

    def _layers(self, reference: OllamaReference) -> list[_Layer]:
        url = f"{self._url(reference)}/manifests/{reference.tag}"
        with self._open(url, {"Accept": _MANIFEST}) as response:
            record = json.loads(_bounded(response, MAX_TEXT_BYTES))
        entries = record["layers"]
        if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
            raise SourceError(f"{reference} has a manifest without layers, or with more than {MAX_LAYERS}.")
        return [_layer(reference, entry) for entry in entries]

    def _text(self, reference: OllamaReference, layer: _Layer) -> str:
        if layer.size_bytes > MAX_TEXT_BYTES:
            raise SourceError(f"The {layer.kind} of {reference} is longer than {MAX_TEXT_BYTES} bytes.")
        with self._open(f"{self._url(reference)}/blobs/sha256:{layer.sha256}") as response:
            content = _bounded(response, layer.size_bytes)
        check_sha256(f"The {layer.kind} of {reference}", layer.sha256, hashlib.sha256(content).hexdigest())
        return content.decode("utf-8", "replace")

    def _download(self, reference: OllamaReference, layer: _Layer, partial: Path, progress: Progress) -> None:
        if _size_bytes(partial) > layer.size_bytes:
            partial.unlink()
        progress.advanced(_size_bytes(partial))
        url = f"{self._url(reference)}/blobs/sha256:{layer.sha256}"
        n_vain = 0
        while (here_bytes := _size_bytes(partial)) < layer.size_bytes:
            try:
                self._append(url, partial, layer.size_bytes, progress)
            except urllib.error.HTTPError:
                raise  # an answer, if an unwelcome one
            except (OSError, HTTPException):
                if n_vain + 1 >= MAX_VAIN_ATTEMPTS:
                    raise
                time.sleep(RETRY_S)
            # A line that breaks again and again is worth going on with as long as it brings something.
            n_vain = n_vain + 1 if _size_bytes(partial) <= here_bytes else 0
            if n_vain >= MAX_VAIN_ATTEMPTS:
                raise SourceError(f"The registry sends less of {reference} than it promised.", hint="Pull again.")

    def _append(self, url: str, partial: Path, size_bytes: int, progress: Progress) -> None:
        """Add what is missing; what comes beyond ``size_bytes`` is not taken."""
        here_bytes = _size_bytes(partial)
        headers = {"Range": f"bytes={here_bytes}-"} if here_bytes else {}
        with self._open(url, headers) as response, partial.open("ab", buffering=0) as target:
            if here_bytes and response.status != 206:
                target.truncate(0)
                progress.advanced(-here_bytes)
                here_bytes = 0
            while chunk := response.read(min(CHUNK_BYTES, size_bytes - here_bytes)):
                target.write(chunk)
                here_bytes += len(chunk)
                progress.advanced(len(chunk))

    def _open(self, url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
        request = urllib.request.Request(url, headers={"User-Agent": "madang", **(headers or {})})
        return cast(HTTPResponse, self._opener.open(request, timeout=TIMEOUT_S))

    def _url(self, reference: OllamaReference) -> str:
        return f"{self._registry}/v2/{reference.namespace}/{reference.name}"

    @contextmanager
    def _errors_of(self, reference: OllamaReference) -> Iterator[None]:
        """The one place where errors of the line and of the registry's answers become ours."""
        try:
            yield
        except urllib.error.HTTPError as error:
            if error.code in (401, 404):
                raise ModelNotFound(str(reference), hint=f"{self._registry} has no such model or tag.") from error
            raise SourceError(
                f"{self._registry} answered {error.code} when asked for {reference}.", hint="Try again later."
            ) from error
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
            raise NetworkUnavailable(
                f"{self._registry} did not answer, or the connection to it broke ({type(error).__name__}).",
                hint="Check the connection and pull again; what has arrived is kept.",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"{self._registry} does not answer like an Ollama registry ({type(error).__name__})."
            ) from error


class _OwnSchemeOnly(urllib.request.HTTPRedirectHandler):
    """Blobs are often served from another host; but never let a redirect leave the encrypted line, or open a file."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        """As the standard does, if the scheme stays the same."""
        url = args[-1]
        if urlsplit(url).scheme != self._scheme:
            raise SourceError(f"The registry sends us to {urlsplit(url).scheme}, away from {self._scheme}.")
        return super().redirect_request(*args)


def own_scheme_only(url: str) -> urllib.request.OpenerDirector:
    """What opens this address and where it leads to, as long as that speaks the same protocol."""
    return urllib.request.build_opener(_OwnSchemeOnly(urlsplit(url).scheme))


def _layer(reference: OllamaReference, entry: Mapping[str, Any]) -> _Layer:
    digest, size_bytes = _DIGEST.fullmatch(entry["digest"]), entry["size"]
    if digest is None or not isinstance(size_bytes, int) or size_bytes < 0:
        raise SourceError(f"{reference} has a layer without a sha256 digest or a size.")
    return _Layer(str(entry["mediaType"]).removeprefix(_LAYER), digest[1], size_bytes)


def _weights(reference: OllamaReference, layers: list[_Layer]) -> _Layer:
    found = [layer for layer in layers if layer.kind == "model"]
    if len(found) != 1:
        raise SourceError(f"{reference} has {len(found)} files of weights; madang runs models of one.")
    for layer in layers:  # what we would leave out must not change what the model answers
        if layer.kind not in ("model", *_TEXTS, *_NOT_NEEDED):
            raise SourceError(f"{reference} has a layer of the kind '{layer.kind[:60]}', which madang does not know.")
    return found[0]


def _preset(reference: OllamaReference, texts: Mapping[str, str]) -> tuple[Preset | None, SamplingParams]:
    """What the publisher's texts add; values that madang does not know or refuses count as not set."""
    try:
        parameters = _parameters(json.loads(texts.get("params", "{}")))
        messages = tuple(
            Message(entry["role"], str(entry["content"])) for entry in json.loads(texts.get("messages", "[]"))
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidRequest) as error:
        raise SourceError(f"The parameters or messages of {reference} are damaged ({type(error).__name__}).") from error
    preset = Preset(
        system=texts.get("system"),
        messages=messages,
        stop=parameters.stop,
        max_tokens=parameters.max_tokens,
        context_tokens=parameters.context_tokens,
        template=texts.get("template"),
        license=texts.get("license"),
    )
    return (preset if preset != Preset() else None), replace(parameters.sampling, seed=None)


def _parameters(record: Mapping[str, Any]) -> Parameters:
    return read_parameters({name: value for name, value in record.items() if name in KNOWN})


def _bounded(response: HTTPResponse, most_bytes: int) -> bytes:
    content = response.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError("longer than it may be")
    return content


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check(reference: OllamaReference, layer: _Layer, partial: Path) -> None:
    """Compare what arrived with its digest; wrong bytes are deleted, or the next pull would go on from them."""
    digest = hashlib.sha256()
    with partial.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != layer.sha256:
        partial.unlink()
    check_sha256(str(reference), layer.sha256, digest.hexdigest())
