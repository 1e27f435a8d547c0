"""Models of the Ollama registry: one question for the manifest, then each layer by its digest.

The registry speaks the OCI distribution protocol. A layer's media type says what it is; of a model's layers, the
weights become its file, and template, system prompt, parameters, first messages and licence its preset. A partial file
is named after its digest, so an interrupted pull goes on where it stopped, and never with other content.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from madang.core.errors import InvalidRequest, ModelNotFound, SourceError
from madang.core.messages import Message
from madang.core.sampling import SamplingParams
from madang.models.arrival import RemoteFile
from madang.models.connections import Client, is_address
from madang.models.downloading import download, line_errors, reuse_notes
from madang.models.fetching import Fetched, Progress, Wanted, Workspace, check_sha256
from madang.models.parameters import KNOWN, Parameters, read_parameters
from madang.models.preset import Preset
from madang.models.references import OllamaReference

REGISTRY = "https://registry.ollama.ai"
MAX_TEXT_BYTES = 1 << 20  # of a manifest, and of each layer that is not weights
MAX_LAYERS = 64

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.ollama.image."
_TEXTS = ("template", "system", "license", "params", "messages")
_NOT_NEEDED = ("projector",)  # for images, which madang does not read
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a model; ``kind`` is the end of its media type."""

    kind: str
    sha256: str
    size_bytes: int


class OllamaSource:
    """``registry`` is another server that speaks the same protocol: a mirror, or the one of a closed network.

    Raises InvalidRequest for what is not the address of one.
    """

    def __init__(self, registry: str = REGISTRY, client: Client | None = None) -> None:
        if not is_address(registry):
            raise InvalidRequest(
                f"'{registry}' is not the address of a registry.",
                param="ollama_registry",
                hint="Write https://registry.example.org, without a name or password.",
            )
        self._registry = registry.rstrip("/")
        self._client = client or Client()

    def fetch(self, reference: OllamaReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Fetch the weights and what comes with them.

        Raises NetworkUnavailable (partial files stay and are resumed), ModelNotFound, SourceError (refused, damaged, or
        not a whole model), ChecksumMismatch, NotEnoughDisk.
        """
        with line_errors(self._registry, reference), self._errors_of(reference):
            url = f"{self._url(reference)}/manifests/{reference.tag}"
            record = json.loads(self._client.read(url, {"Accept": _MANIFEST}, MAX_TEXT_BYTES))
            layers = read_layers(str(reference), record)
            weights, preset, sampling = assemble(str(reference), layers, lambda layer: self._text(reference, layer))
            file = RemoteFile(
                name="model.gguf",
                url=f"{self._url(reference)}/blobs/sha256:{weights.sha256}",
                path=workspace.folder / weights.sha256,
                size_bytes=weights.size_bytes,
                sha256=weights.sha256,
            )
            files = download([file], self._client, workspace, progress)
        source = f"{reference}@sha256:{weights.sha256}"
        return Fetched("gguf", files, source, sampling, preset, reuse_notes(files))

    def weights_url(self, reference: OllamaReference) -> str:
        """Where the weights can be read. Raises as ``fetch``."""
        with line_errors(self._registry, reference), self._errors_of(reference):
            url = f"{self._url(reference)}/manifests/{reference.tag}"
            record = json.loads(self._client.read(url, {"Accept": _MANIFEST}, MAX_TEXT_BYTES))
            weights = [layer for layer in read_layers(str(reference), record) if layer.kind == "model"]
        if len(weights) != 1:
            raise SourceError(f"{reference} has {len(weights)} files of weights; madang runs models of one.")
        return f"{self._url(reference)}/blobs/sha256:{weights[0].sha256}"

    def _text(self, reference: OllamaReference, layer: Layer) -> str:
        content = self._client.read(f"{self._url(reference)}/blobs/sha256:{layer.sha256}", {}, layer.size_bytes)
        check_sha256(f"The {layer.kind} of {reference}", layer.sha256, hashlib.sha256(content).hexdigest())
        return content.decode("utf-8", "replace")

    def _url(self, reference: OllamaReference) -> str:
        return f"{self._registry}/v2/{reference.namespace}/{reference.name}"

    @contextmanager
    def _errors_of(self, reference: OllamaReference) -> Iterator[None]:
        """The one place where what the registry answers becomes an error of ours."""
        try:
            yield
        except urllib.error.HTTPError as error:
            if error.code in (401, 404):
                raise ModelNotFound(str(reference), hint=f"{self._registry} has no such model or tag.") from error
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"{self._registry} does not answer like an Ollama registry ({type(error).__name__})."
            ) from error


def read_layers(what: str, record: Any) -> list[Layer]:
    """The layers that a manifest names. Raises SourceError, ValueError, TypeError, KeyError."""
    entries = record["layers"]
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise SourceError(f"{what} has a manifest without layers, or with more than {MAX_LAYERS}.")
    return [_layer(what, entry) for entry in entries]


def assemble(
    what: str, layers: list[Layer], text_of: Callable[[Layer], str]
) -> tuple[Layer, Preset | None, SamplingParams]:
    """The weights, and what the texts beside them add. Raises SourceError, and what ``text_of`` raises."""
    weights = _weights(what, layers)
    texts: dict[str, str] = {}
    for layer in layers:
        if layer.kind not in _TEXTS:
            continue
        if layer.size_bytes > MAX_TEXT_BYTES:
            raise SourceError(f"The {layer.kind} of {what} is longer than {MAX_TEXT_BYTES} bytes.")
        texts[layer.kind] = texts.get(layer.kind, "") + text_of(layer)  # a model may come under several licences
    return weights, *_preset(what, texts)


def _layer(what: str, entry: Mapping[str, Any]) -> Layer:
    digest, size_bytes = _DIGEST.fullmatch(entry["digest"]), entry["size"]
    if digest is None or not isinstance(size_bytes, int) or size_bytes < 0:
        raise SourceError(f"{what} has a layer without a sha256 digest or a size.")
    return Layer(str(entry["mediaType"]).removeprefix(_LAYER), digest[1], size_bytes)


def _weights(what: str, layers: list[Layer]) -> Layer:
    found = [layer for layer in layers if layer.kind == "model"]
    if len(found) != 1:
        raise SourceError(f"{what} has {len(found)} files of weights; madang runs models of one.")
    for layer in layers:  # what we would leave out must not change what the model answers
        if layer.kind not in ("model", *_TEXTS, *_NOT_NEEDED):
            raise SourceError(f"{what} has a layer of the kind '{layer.kind[:60]}', which madang does not know.")
    return found[0]


def _preset(what: str, texts: Mapping[str, str]) -> tuple[Preset | None, SamplingParams]:
    """What the publisher's texts add; values that madang does not know or refuses count as not set."""
    try:
        parameters = _parameters(json.loads(texts.get("params", "{}")))
        messages = tuple(
            Message(entry["role"], str(entry["content"])) for entry in json.loads(texts.get("messages", "[]"))
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidRequest) as error:
        raise SourceError(f"The parameters or messages of {what} are damaged ({type(error).__name__}).") from error
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
