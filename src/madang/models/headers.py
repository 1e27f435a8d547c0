"""Models that are not here, as far as their headers tell: sparse files of the right sizes, with only the first bytes.

A plan needs shapes and types, which stand at the beginning of each file. So the beginning is fetched, by HTTP ranges,
and written to where it belongs; the readers of formats then read such a file like any other, and touch no weights.
"""

from __future__ import annotations

import re
import tempfile
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile, ModelNotFound, SourceError
from madang.formats.gguf import read_gguf_header
from madang.models.choosing import choose_files
from madang.models.connections import Client, LineBroken
from madang.models.downloading import line_errors
from madang.models.files import ModelFiles
from madang.models.references import HubReference, OllamaReference, UrlReference
from madang.models.sources.huggingface import errors_of_hub
from madang.models.sources.ollama import REGISTRY, OllamaSource

TIMEOUT_S: Final = 30.0
MAX_CONFIG_BYTES: Final = 4 << 20  # of what is fetched as a whole beside weights: config, index, pooling
MAX_TOKENIZER_BYTES: Final = 128 << 20
MAX_HEADER_BYTES: Final = 256 << 20
TOKENIZER_FILE: Final = "tokenizer.json"
_LENGTH_BYTES = 8
_FIRST_BYTES = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Ranges(Protocol):
    """A file on a server."""

    def get(self, begin: int, n_bytes: int) -> tuple[bytes, int]:
        """So many bytes from there, fewer where the file ends; and the size of the whole file."""


@contextmanager
def header_files(
    reference: HubReference | OllamaReference | UrlReference,
    *,
    registry: str | None = None,
    endpoint: str | None = None,
    tokenizer: bool = False,
) -> Iterator[ModelFiles]:
    """The model's files with their headers alone, for as long as the block lasts.

    ``registry`` and ``endpoint`` are an Ollama registry and a hub in place of the usual ones. ``tokenizer`` gets that
    of a folder in place of its weights' headers; that of a GGUF file is always there. Raises ModelNotFound,
    NetworkUnavailable, SourceError, InvalidReference when the choice is the user's, and what readers of headers raise.
    """
    with tempfile.TemporaryDirectory(prefix="madang-header-") as name:
        folder = Path(name)
        if isinstance(reference, HubReference):
            with errors_of_hub(reference, endpoint):
                files = _hub_files(reference, folder, endpoint, tokenizer=tokenizer)
        elif isinstance(reference, OllamaReference):
            url = OllamaSource(registry or REGISTRY).weights_url(reference)
            files = _gguf_files(str(reference), _Web(url), folder / "model.gguf")
        else:
            files = _gguf_files(str(reference), _Web(reference.url), folder / "model.gguf")
        yield files


def _hub_files(reference: HubReference, folder: Path, endpoint: str | None, *, tokenizer: bool) -> ModelFiles:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    info = api.model_info(reference.repo, revision=reference.revision, files_metadata=True, timeout=TIMEOUT_S)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    chosen = choose_files(f"hf:{reference.repo}", list(sizes), reference.file)
    at = HubReference(reference.repo, None, info.sha)
    if chosen.format == "gguf":
        path = chosen.paths[0]
        return _gguf_files(
            f"hf:{reference.repo}/{path}", _hub_file(at, path, endpoint), folder / PurePosixPath(path).name
        )
    for name, path in zip(chosen.names, chosen.paths, strict=True):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        most_bytes = MAX_TOKENIZER_BYTES if tokenizer and name == TOKENIZER_FILE else MAX_CONFIG_BYTES
        if name.endswith(".safetensors"):
            if not tokenizer:
                _copy_safetensors_header(_hub_file(at, path, endpoint), target)
        elif name.endswith(".json") and sizes[path] <= most_bytes:
            target.write_bytes(_hub_file(at, path, endpoint).get(0, most_bytes)[0])
    return _model_files(str(reference), "huggingface", folder, sum(sizes[path] for path in chosen.paths))


def _gguf_files(name: str, ranges: Ranges, path: Path) -> ModelFiles:
    with _SparseCopy(ranges, path) as copy:
        read_gguf_header(copy)
    return _model_files(name, "gguf", path, copy.size_bytes)


def _model_files(name: str, model_format: Any, path: Path, size_bytes: int) -> ModelFiles:
    return ModelFiles(
        name=name, format=model_format, path=path, size_bytes=size_bytes, source=name, modified=datetime.now(UTC)
    )


def _copy_safetensors_header(ranges: Ranges, path: Path) -> None:
    with _SparseCopy(ranges, path) as copy:
        n_bytes = int.from_bytes(copy.read(0, _LENGTH_BYTES), "little")
        if n_bytes > min(MAX_HEADER_BYTES, copy.size_bytes):
            raise MalformedFile(path, f"it claims a header of {n_bytes} bytes")
        copy.read(_LENGTH_BYTES, n_bytes)


class _SparseCopy:
    """What was read of a remote file, where it belongs in a file of the same size; a context manager."""

    def __init__(self, ranges: Ranges, path: Path) -> None:
        self.path = path
        self._ranges = ranges
        first, self.size_bytes = ranges.get(0, _FIRST_BYTES)
        if self.size_bytes == 0:
            raise MalformedFile(path, "it is empty")
        self._n_fetched = len(first)
        self._file = path.open("w+b")
        self._file.truncate(self.size_bytes)
        self._write(0, first)

    def __enter__(self) -> _SparseCopy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, begin: int, n_bytes: int) -> npt.NDArray[np.uint8]:
        """Exactly these bytes. Raises MalformedFile when the server ends before them."""
        end = begin + n_bytes
        if end > self._n_fetched:
            more, _ = self._ranges.get(self._n_fetched, end - self._n_fetched)
            self._write(self._n_fetched, more)
            self._n_fetched += len(more)
        if end > self._n_fetched:
            raise MalformedFile(self.path, "its server sends less than it announces")
        self._file.seek(begin)
        return np.frombuffer(self._file.read(n_bytes), np.uint8)

    def _write(self, begin: int, content: bytes) -> None:
        self._file.seek(begin)
        self._file.write(content)


class _Web:
    """A file by its address; ``headers`` hold the token, which redirects give to nobody else."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._headers = url, headers or {}
        self._client = Client()

    def get(self, begin: int, n_bytes: int) -> tuple[bytes, int]:
        """The range, in one attempt: nothing that takes long is lost with it."""
        asked = {**self._headers, "Range": f"bytes={begin}-{begin + n_bytes - 1}"}
        with line_errors(urlsplit(self._url).netloc, self._url):
            try:
                with self._client.open(self._url, asked) as response:
                    return response.read(n_bytes), _whole_size(self._url, response, begin)
            except urllib.error.HTTPError as error:
                if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                    raise
                raise ModelNotFound(self._url, hint="The server has no such file.") from error
            except (OSError, HTTPException) as error:
                raise LineBroken(type(error).__name__) from error


def _hub_file(at: HubReference, path: str, endpoint: str | None) -> _Web:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(at.repo, path, revision=at.revision, endpoint=endpoint)
    return _Web(url, build_hf_headers(library_name="madang"))


def _whole_size(url: str, response: HTTPResponse, begin: int) -> int:
    """Of the whole file. Raises SourceError when the answer is not the range that was asked for."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if response.status == HTTPStatus.PARTIAL_CONTENT and match is not None and int(match[1]) == begin:
        return int(match[2])
    length = response.headers.get("Content-Length") or ""
    if response.status == HTTPStatus.OK and begin == 0 and length.isdigit():
        return int(length)
    raise SourceError(f"{url} does not send parts of files, so its header alone cannot be read.", hint="Pull it first.")
