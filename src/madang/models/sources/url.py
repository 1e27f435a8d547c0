"""GGUF files on web servers.

Nobody vouches for such a file but the checksum that the user gives. Until it has arrived, its strong ETag or its date
stands for it: a file that is another one at the next attempt is fetched from its beginning.
"""

from __future__ import annotations

import hashlib
import urllib.error
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import unquote, urlsplit

from madang.core.errors import ModelNotFound, SourceError
from madang.models.arrival import RemoteFile
from madang.models.connections import Attempts, Client
from madang.models.downloading import FileChanged, download, line_errors, reuse_notes, stated_bytes
from madang.models.fetching import Fetched, Progress, ReferencedFile, StagedFile, Wanted, Workspace
from madang.models.references import UrlReference
from madang.models.sources.file import GGUF_MAGIC

MAX_CHANGES = 2  # of the file, while it is fetched


class UrlSource:
    """Asks with one byte what the file is, then fetches it."""

    def __init__(self, client: Client | None = None) -> None:
        self._client = client or Client()

    def fetch(self, reference: UrlReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Fetch the file.

        Raises NetworkUnavailable (what arrived stays and is resumed), ModelNotFound, SourceError (refused, changing, or
        not a GGUF file), ChecksumMismatch, NotEnoughDisk.
        """
        with line_errors(reference.host, reference.url):
            try:
                (file,) = self._until_stable(reference, workspace, progress)
            except urllib.error.HTTPError as error:
                if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                    raise
                raise ModelNotFound(str(reference), hint=f"{reference.host} has no such file.") from error
        _check_magic(reference, file)
        notes = reuse_notes([file])
        sha256 = file.sha256 if isinstance(file, StagedFile) else reference.sha256
        exact = UrlReference(reference.url, sha256)
        if reference.sha256 is None:
            notes = (
                f"No checksum was given, so nothing was compared. To compare the next time: madang pull '{exact}'",
            )
        return Fetched("gguf", (file,), str(exact), notes=notes)

    def _until_stable(
        self, reference: UrlReference, workspace: Workspace, progress: Progress
    ) -> tuple[StagedFile | ReferencedFile, ...]:
        progress = _Restarting(progress)
        for _ in range(MAX_CHANGES):
            with suppress(FileChanged):
                return download([self._describe(reference, workspace.folder)], self._client, workspace, progress)
        return download([self._describe(reference, workspace.folder)], self._client, workspace, progress)

    def _describe(self, reference: UrlReference, folder: Path) -> RemoteFile:
        """What the server says of the file. One byte is asked for: not every server answers HEAD."""
        attempts = Attempts(self._client.connections, reference.host)
        while True:
            try:
                with self._client.open(reference.url, {"Range": "bytes=0-0"}) as response:
                    return _described(reference, folder, response)
            except urllib.error.HTTPError as error:  # one that nobody answers is told of at once
                attempts.failed(error)


class _Restarting:
    """Progress that may start again: what was told before is taken back."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told_bytes: int | None = None

    def started(self, total_bytes: int | None) -> None:
        """Only the first time is one for those who watch."""
        if self._told_bytes is None:
            self._progress.started(total_bytes)
        elif self._told_bytes:
            self._progress.advanced(-self._told_bytes)
        self._told_bytes = 0

    def advanced(self, n_bytes: int) -> None:
        """Pass on."""
        self._told_bytes = (self._told_bytes or 0) + n_bytes
        self._progress.advanced(n_bytes)

    def finished(self) -> None:
        """Pass on."""
        self._progress.finished()


def _described(reference: UrlReference, folder: Path, response: HTTPResponse) -> RemoteFile:
    if response.headers.get_content_type() == "text/html" and "Content-Type" in response.headers:
        raise SourceError(
            f"{reference.url} is a web page, not a GGUF file.", hint="Copy the address of the download itself."
        )
    etag = response.headers.get("ETag")
    strong = etag if etag is not None and not etag.startswith("W/") else None
    return RemoteFile(
        name=unquote(urlsplit(reference.url).path.rpartition("/")[2]) or "model.gguf",
        url=reference.url,
        path=folder / hashlib.sha256(str(reference).encode()).hexdigest(),
        size_bytes=stated_bytes(response),
        sha256=reference.sha256,
        validator=strong or response.headers.get("Last-Modified"),
    )


def _check_magic(reference: UrlReference, file: StagedFile | ReferencedFile) -> None:
    with file.path.open("rb") as content:
        if content.read(len(GGUF_MAGIC)) == GGUF_MAGIC:
            return
    if isinstance(file, StagedFile):
        file.path.unlink()
    raise SourceError(f"{reference.url} is not a GGUF file; nothing was kept.", hint="Check the address in a browser.")
