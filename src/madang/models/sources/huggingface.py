"""Models from a Hugging Face hub, through huggingface_hub (tokens, proxies, mirrors and HF_ENDPOINT as it knows them).

One question lists the repository at one commit; each file is then fetched at exactly that commit. A partial file is
named after its content, so an interrupted pull goes on where it stopped, and never with other content.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from madang.core.errors import InvalidReference, ModelNotFound, NetworkUnavailable, SourceError
from madang.models.choosing import choose_files
from madang.models.fetching import CHUNK_BYTES, Fetched, Pin, Progress, StagedFile, Wanted, Workspace, check_sha256
from madang.models.references import HubReference

TIMEOUT_S = 30.0
RETRY_S = 1.0
MAX_VAIN_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    """What the hub says of a file: ``sha256`` of large ones, git's own id (a sha1) of the others."""

    path: str
    size_bytes: int | None
    sha256: str | None
    git_id: str | None

    @property
    def content_id(self) -> str | None:
        """What changes when the content does; a partial file is only continued under the same one."""
        return self.sha256 or self.git_id


class HuggingFaceSource:
    """``endpoint`` and ``token`` replace what huggingface_hub finds in its own configuration."""

    def __init__(self, *, endpoint: str | None = None, token: str | bool | None = None) -> None:
        self._endpoint = endpoint
        self._token = token

    def fetch(self, reference: HubReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Fetch the named file, or the model that ``choose_files`` finds.

        Raises NetworkUnavailable (the partial files stay and are resumed), ModelNotFound, InvalidReference when the
        choice is the user's, SourceError (gated, refused, damaged), ChecksumMismatch, NotEnoughDisk.
        """
        with _errors_of(reference, self._endpoint):
            commit, remote = self._list(reference)
        chosen = choose_files(f"hf:{reference.repo}", list(remote), reference.file)
        parts = [(remote[path], _partial(workspace.folder, remote[path])) for path in chosen.paths]
        total_bytes = _total_bytes([file for file, _ in parts])
        workspace.require_space((total_bytes or 0) - sum(_size_bytes(partial) for _, partial in parts))
        workspace.folder.mkdir(parents=True, exist_ok=True)
        progress.started(total_bytes)
        staged = []
        for name, (file, partial) in zip(chosen.names, parts, strict=True):
            with _errors_of(reference, self._endpoint):
                self._download(HubReference(reference.repo, file.path, commit), file, partial, progress)
            staged.append(_checked(name, file, partial, (wanted.files or {}).get(name, Pin())))
        file_name = chosen.paths[0] if chosen.format == "gguf" else None
        return Fetched(chosen.format, tuple(staged), str(HubReference(reference.repo, file_name, commit)))

    def _list(self, reference: HubReference) -> tuple[str, Mapping[str, _RemoteFile]]:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._token)
        info = api.model_info(reference.repo, revision=reference.revision, files_metadata=True, timeout=TIMEOUT_S)
        if info.sha is None:
            raise SourceError(f"The hub does not say which commit of {reference} it serves.")
        return info.sha, {file.path: file for file in map(_remote_file, info.siblings or ())}

    def _download(self, at: HubReference, file: _RemoteFile, partial: Path, progress: Progress) -> None:
        from huggingface_hub import errors, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        if file.content_id is None or file.size_bytes is None or _size_bytes(partial) > file.size_bytes:
            partial.unlink(missing_ok=True)
        partial.touch()
        url = hf_hub_url(at.repo, at.file or "", revision=at.revision, endpoint=self._endpoint)
        # Resuming counts bytes of the file itself, not of a compressed transfer.
        headers = {**build_hf_headers(token=self._token, library_name="madang"), "Accept-Encoding": "identity"}
        progress.advanced(_size_bytes(partial))
        n_vain = 0
        while (here_bytes := _size_bytes(partial)) != file.size_bytes:
            try:
                _append(url, headers, partial, progress)
                break
            except errors.HfHubHTTPError:
                raise  # an answer, if an unwelcome one
            except _broken_connection():
                # A line that breaks again and again is worth going on with as long as it brings something.
                n_vain = n_vain + 1 if _size_bytes(partial) == here_bytes else 0
                if n_vain == MAX_VAIN_ATTEMPTS:
                    raise
                time.sleep(RETRY_S)


def _append(url: str, headers: dict[str, str], partial: Path, progress: Progress) -> None:
    """Add what is missing to the partial file."""
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff  # type: ignore[attr-defined]

    here_bytes = _size_bytes(partial)
    if here_bytes > 0:
        headers = {**headers, "Range": f"bytes={here_bytes}-"}
    answer = http_stream_backoff("GET", url, headers=headers, timeout=TIMEOUT_S, retry_on_exceptions=())
    with answer as response, partial.open("ab", buffering=0) as target:
        hf_raise_for_status(response)
        if here_bytes > 0 and response.status_code != HTTPStatus.PARTIAL_CONTENT:
            target.truncate(0)
            progress.advanced(-here_bytes)
        for chunk in response.iter_bytes():
            target.write(chunk)
            progress.advanced(len(chunk))


def _broken_connection() -> type[Exception]:
    """What the HTTP client raises. Which client it is differs between versions of huggingface_hub, but the hub's own
    error always derives from the client's most general one."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__bases__[0])


@contextmanager
def _errors_of(reference: HubReference, endpoint: str | None) -> Iterator[None]:
    """The one place where the library's errors, and those of the HTTP client under it, become ours."""
    from huggingface_hub import constants, errors

    hub = endpoint or constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{reference} is gated: its publisher wants its terms accepted first.",
            hint=f"Accept them at {hub}/{reference.repo}, then run 'hf auth login' and pull again.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        hint = f"Look for it at {hub}; a private one needs 'hf auth login'."
        raise ModelNotFound(str(reference), hint=hint) from error
    except errors.RevisionNotFoundError as error:
        hint = f"See its revisions at {hub}/{reference.repo}."
        raise ModelNotFound(str(reference), hint=hint) from error
    except errors.HFValidationError as error:
        raise InvalidReference(f"'{reference}' is not a repository that can exist ({error}).", param="model") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise SourceError(f"{hub} answered {status} when asked for {reference}.", hint="Try again later.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{hub} does not answer like a Hugging Face hub ({type(error).__name__}).") from error
    except (_broken_connection(), errors.OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise NetworkUnavailable(
            f"{hub} did not answer, or the connection to it broke ({type(error).__name__}).",
            hint="Check the connection and pull again; what has arrived is kept.",
        ) from error


def _remote_file(sibling: Any) -> _RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    return _RemoteFile(sibling.rfilename, sibling.size, sha256, None if sha256 else sibling.blob_id)


def _partial(folder: Path, file: _RemoteFile) -> Path:
    return folder / hashlib.sha256(f"{file.path}\0{file.content_id}".encode()).hexdigest()


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total_bytes(files: list[_RemoteFile]) -> int | None:
    sizes = [file.size_bytes for file in files if file.size_bytes is not None]
    return sum(sizes) if len(sizes) == len(files) else None


def _checked(name: str, file: _RemoteFile, path: Path, pin: Pin) -> StagedFile:
    """The file, if it is what the hub and the catalog promised; a wrong one is deleted."""
    size_bytes = path.stat().st_size
    sha256, git_id = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            sha256.update(chunk)
            git_id.update(chunk)
    actual = sha256.hexdigest()
    try:
        for promised in (file.sha256, pin.sha256):
            check_sha256(name, promised, actual)
        if file.git_id is not None and file.git_id != git_id.hexdigest():
            raise SourceError(f"{name} is not the file that the hub lists; nothing was kept.", hint="Pull again.")
        if pin.size_bytes not in (None, size_bytes):
            raise SourceError(f"{name} has {size_bytes} bytes, but the catalog expects {pin.size_bytes}.")
    except SourceError:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    return StagedFile(name, path, size_bytes, actual)


def errors_of_hub(reference: HubReference, endpoint: str | None) -> AbstractContextManager[None]:
    """Inside of it, the library's errors become ours."""
    return _errors_of(reference, endpoint)
