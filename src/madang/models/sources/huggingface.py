"""Models from a Hugging Face hub: huggingface_hub knows tokens, mirrors and HF_ENDPOINT, and lists; we transfer.

One question lists the repository at one commit; each file is then fetched at exactly that commit. A partial file is
named after its content, so an interrupted pull goes on where it stopped, and never with other content.
"""

from __future__ import annotations

import hashlib
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from madang.core.errors import (
    ChecksumMismatch,
    InvalidReference,
    InvalidRequest,
    ModelNotFound,
    NetworkUnavailable,
    SourceError,
)
from madang.models.arrival import RemoteFile
from madang.models.choosing import choose_files
from madang.models.connections import Attempts, Client, is_address
from madang.models.downloading import download, line_errors, reuse_notes
from madang.models.fetching import Fetched, Pin, Progress, Wanted, Workspace
from madang.models.references import HubReference

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Listed:
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
    """``endpoint`` and ``token`` replace what huggingface_hub finds in its own configuration.

    Raises InvalidRequest for an endpoint that is no address.
    """

    def __init__(
        self, *, endpoint: str | None = None, token: str | bool | None = None, client: Client | None = None
    ) -> None:
        if endpoint is not None and not is_address(endpoint):
            raise InvalidRequest(
                f"'{endpoint}' is not the address of a hub.",
                param="hf_endpoint",
                hint="Write https://hub.example.org, without a name or password.",
            )
        self._endpoint = None if endpoint is None else endpoint.rstrip("/")
        self._token = token
        self._client = client or Client()

    def fetch(self, reference: HubReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Fetch the named file, or the model that ``choose_files`` finds.

        Raises NetworkUnavailable (the partial files stay and are resumed), ModelNotFound, InvalidReference when the
        choice is the user's, SourceError (gated, refused, damaged), ChecksumMismatch, NotEnoughDisk.
        """
        with _errors_of(reference, self._endpoint):
            commit, listed = self._list(reference)
        chosen = choose_files(f"hf:{reference.repo}", list(listed), reference.file)
        pins = wanted.files or {}
        files = []
        for name, path in zip(chosen.names, chosen.paths, strict=True):
            _check_pin(name, listed[path], pins.get(name, Pin()))
            at = HubReference(reference.repo, path, commit)
            files.append(self._remote_file(at, name, listed[path], workspace.folder))
        with line_errors(hub_address(self._endpoint), reference), _errors_of(reference, self._endpoint):
            fetched = download(files, self._client, workspace, progress)
        file_name = chosen.paths[0] if chosen.format == "gguf" else None
        source = str(HubReference(reference.repo, file_name, commit))
        return Fetched(chosen.format, fetched, source, notes=reuse_notes(fetched))

    def _list(self, reference: HubReference) -> tuple[str, Mapping[str, _Listed]]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        api = HfApi(endpoint=self._endpoint, token=self._token)
        attempts = Attempts(self._client.connections, hub_address(self._endpoint))
        while True:
            try:
                info = api.model_info(
                    reference.repo, revision=reference.revision, files_metadata=True, timeout=TIMEOUT_S
                )
                break
            except HfHubHTTPError as error:
                attempts.failed(error)
        if info.sha is None:
            raise SourceError(f"The hub does not say which commit of {reference} it serves.")
        return info.sha, {file.path: file for file in map(_listed, info.siblings or ())}

    def _remote_file(self, at: HubReference, name: str, listed: _Listed, folder: Path) -> RemoteFile:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        return RemoteFile(
            name=name,
            url=hf_hub_url(at.repo, at.file or "", revision=at.revision, endpoint=self._endpoint),
            path=folder / hashlib.sha256(f"{listed.path}\0{listed.content_id}".encode()).hexdigest(),
            size_bytes=listed.size_bytes if listed.content_id is not None else None,
            sha256=listed.sha256,
            git_id=listed.git_id,
            headers=build_hf_headers(token=self._token, library_name="madang"),
        )


def broken_connection() -> type[Exception]:
    """What the library's HTTP client raises. Which client it is differs between its versions, but the hub's own error
    always derives from the client's most general one."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__bases__[0])


def hub_address(endpoint: str | None) -> str:
    """The hub's own where none is named."""
    from huggingface_hub import constants

    return endpoint or constants.ENDPOINT


@contextmanager
def _errors_of(reference: HubReference, endpoint: str | None) -> Iterator[None]:
    """The one place where the library's errors, and those of the line, become ours."""
    from huggingface_hub import errors

    hub = hub_address(endpoint)
    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(reference, hub) from error
    except errors.RepositoryNotFoundError as error:
        hint = f"Look for it at {hub}; a private one needs a token: run 'hf auth login' or set HF_TOKEN."
        raise ModelNotFound(str(reference), hint=hint) from error
    except errors.RevisionNotFoundError as error:
        hint = f"See its revisions at {hub}/{reference.repo}."
        raise ModelNotFound(str(reference), hint=hint) from error
    except errors.HFValidationError as error:
        raise InvalidReference(f"'{reference}' is not a repository that can exist ({error}).", param="model") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise SourceError(f"{hub} answered {status} when asked for {reference}.", hint="Try again later.") from error
    except urllib.error.HTTPError as error:
        if error.headers.get("X-Error-Code") != "GatedRepo" and error.code not in _NOT_ALLOWED:
            raise
        raise _gated(reference, hub) from error
    except errors.OfflineModeIsEnabled as error:
        raise NetworkUnavailable(
            f"{reference} is not here, and HF_HUB_OFFLINE keeps huggingface_hub off the network.",
            hint="Unset HF_HUB_OFFLINE, or see with 'madang import' what this machine has.",
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{hub} does not answer like a Hugging Face hub ({type(error).__name__}).") from error
    except (broken_connection(), ConnectionError, TimeoutError) as error:
        raise NetworkUnavailable(
            f"{hub} did not answer, or the connection to it broke ({type(error).__name__}).",
            hint="Check the connection and pull again; what has arrived is kept.",
        ) from error


_NOT_ALLOWED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def _gated(reference: HubReference, hub: str) -> SourceError:
    return SourceError(
        f"{reference} is gated: its publisher wants its terms accepted first, by the account whose token you use.",
        hint=f"Accept them at {hub}/{reference.repo}, run 'hf auth login' or set HF_TOKEN, and pull again.",
    )


def _listed(sibling: Any) -> _Listed:
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
    return _Listed(sibling.rfilename, sibling.size, sha256, None if sha256 else sibling.blob_id)


def _check_pin(name: str, listed: _Listed, pin: Pin) -> None:
    """The hub must list what the catalog expects."""
    if None not in (pin.sha256, listed.sha256) and pin.sha256 != listed.sha256:
        raise ChecksumMismatch(name, str(pin.sha256), str(listed.sha256))
    if None not in (pin.size_bytes, listed.size_bytes) and pin.size_bytes != listed.size_bytes:
        raise SourceError(f"{name} has {listed.size_bytes} bytes, but the catalog expects {pin.size_bytes}.")


def errors_of_hub(reference: HubReference, endpoint: str | None) -> AbstractContextManager[None]:
    """Inside of it, the library's errors become ours."""
    return _errors_of(reference, endpoint)
