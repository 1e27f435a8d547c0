"""Files over HTTP, for all sources alike: found on this machine or transferred, resumed, checked.

:func:`download` -> is the content here already? -> is there room? -> segments over several connections -> checksums
"""

from __future__ import annotations

import hashlib
import re
import threading
import urllib.error
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from madang.core.errors import ChecksumMismatch, NetworkUnavailable, SourceError
from madang.core.units import format_bytes
from madang.models.arrival import SEGMENT_BYTES, Arrival, RemoteFile
from madang.models.connections import Attempts, Client, LineBroken, read_chunk, refusal_of
from madang.models.fetching import CHUNK_BYTES, Progress, ReferencedFile, StagedFile, Workspace, check_sha256

STOP_S = 1.0
POLL_S = 0.2

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class FileChanged(Exception):
    """The file is another one than when the transfer began; its source has to ask again what it is."""


@contextmanager
def line_errors(host: str, what: object) -> Iterator[None]:
    """What goes wrong between here and ``host`` while ``what`` is fetched, as errors of ours."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise SourceError(
            f"{host} answered {refusal_of(error)} when asked for {what}.",
            hint="Pull again later; what has arrived is kept.",
        ) from error
    except FileChanged as error:
        raise SourceError(f"{host} changed a file of {what} meanwhile.", hint="Pull again.") from error
    except LineBroken as error:
        raise NetworkUnavailable(
            f"{host} did not answer, or the connection to it broke ({error}).",
            hint="Check the connection and pull again; what has arrived is kept.",
        ) from error


def download(
    files: Sequence[RemoteFile], client: Client, workspace: Workspace, progress: Progress
) -> tuple[StagedFile | ReferencedFile, ...]:
    """All files, complete and checked, in their order. One that this machine has already is only looked at.

    Raises LineBroken and HTTPError (what has arrived stays and is gone on with), FileChanged, ChecksumMismatch and
    SourceError for wrong content (which is deleted), NotEnoughDisk before anything is written.
    """
    progress.started(_total_bytes(files))
    found = [_look_up(file, workspace, progress) for file in files]
    arrivals = [Arrival(file) for file, known in zip(files, found, strict=True) if known is None]
    missing_bytes = sum((arrival.file.size_bytes or 0) - arrival.n_bytes for arrival in arrivals)
    workspace.require_space(missing_bytes)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    here_bytes = sum(arrival.n_bytes for arrival in arrivals)
    if here_bytes:
        progress.advanced(here_bytes)
    _Transfer(arrivals, client, workspace, progress).run()
    arrived = iter(arrivals)
    return tuple(_checked(next(arrived)) if known is None else known for known in found)


def _total_bytes(files: Sequence[RemoteFile]) -> int | None:
    sizes = [file.size_bytes for file in files if file.size_bytes is not None]
    return sum(sizes) if len(sizes) == len(files) else None


def _look_up(file: RemoteFile, workspace: Workspace, progress: Progress) -> StagedFile | ReferencedFile | None:
    """The file from this machine, if it is there; names prove nothing, so its bytes are read."""
    if file.size_bytes is None or file.sha256 is None:
        return None
    for candidate in workspace.look_up(file.name, file.size_bytes, file.sha256):
        try:
            status = candidate.path.stat()
            if status.st_size != file.size_bytes or sha256_of(candidate.path) != file.sha256:
                continue
        except OSError:
            continue
        progress.advanced(file.size_bytes)
        if candidate.holder is None:
            return StagedFile(file.name, candidate.path, file.size_bytes, file.sha256)
        return ReferencedFile(file.name, candidate.path, file.size_bytes, status.st_mtime_ns, candidate.holder)
    return None


def sha256_of(path: Path) -> str:
    """In hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reuse_notes(files: Sequence[StagedFile | ReferencedFile]) -> tuple[str, ...]:
    """What was not downloaded, and why."""
    return tuple(
        f"{file.name} ({format_bytes(file.size_bytes)}) is used where {file.holder} has it, not downloaded: {file.path}"
        for file in files
        if isinstance(file, ReferencedFile)
    )


class _Transfer:
    """Several connections work through the missing segments of all files.

    Whether a server gives parts of a file is only known from an answer: of each file one segment is asked for first,
    and the others when that came as a part.
    """

    def __init__(self, arrivals: Sequence[Arrival], client: Client, workspace: Workspace, progress: Progress) -> None:
        self._arrivals, self._client, self._workspace, self._progress = arrivals, client, workspace, progress
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._in_parts: set[int] = set()
        self._tasks = deque(
            (number, arrival.missing()[0]) for number, arrival in enumerate(arrivals) if arrival.missing()
        )
        self._n_working = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Return when all is here; raise what went wrong first."""
        n_segments = sum(len(arrival.missing()) for arrival in self._arrivals)
        n_threads = min(self._client.connections.at_once, n_segments)
        threads = [threading.Thread(target=self._work, name="madang-fetch", daemon=True) for _ in range(n_threads)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # in steps, so that Ctrl-C is heard on every system
                    thread.join(POLL_S)
        finally:
            self._stop.set()
            for thread in threads:  # one that hears nothing on its line writes nothing any more either
                thread.join(STOP_S)
            for arrival in self._arrivals:
                arrival.close()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._fetch(*task)
            except BaseException as error:
                with self._changed:
                    self._error = self._error or error
                self._stop.set()
            with self._changed:
                self._n_working -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[int, int] | None:
        with self._changed:
            while not self._tasks and self._n_working > 0 and not self._stop.is_set():
                self._changed.wait(POLL_S)
            if not self._tasks or self._stop.is_set():
                return None
            self._n_working += 1
            return self._tasks.popleft()

    def _fetch(self, number: int, segment: int) -> None:
        arrival = self._arrivals[number]
        attempts = Attempts(self._client.connections, urlsplit(arrival.file.url).netloc, self._stop)
        while not self._stop.is_set():
            before_bytes = arrival.n_bytes
            if number not in self._in_parts:  # one stream may have filled several segments
                segment = next(iter(arrival.missing()), segment)
            try:
                if self._stream(number, segment):
                    return
                raise LineBroken("the answer ended early")
            except (LineBroken, urllib.error.HTTPError) as error:
                if getattr(error, "code", None) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._tell(-arrival.forget(segment))
                    error = LineBroken("the server says that it does not have the rest of the file")
                attempts.failed(error, brought=arrival.n_bytes > before_bytes)

    def _stream(self, number: int, segment: int) -> bool:
        """One answer, as far as it goes; whether the segment is complete."""
        arrival = self._arrivals[number]
        file = arrival.file
        if file.size_bytes is None:
            self._tell(-arrival.forget())  # nobody can say how to go on
        start, end = arrival.gap(segment)
        headers = dict(file.headers)
        is_part = start > 0 or end != file.size_bytes
        if is_part:
            headers["Range"] = f"bytes={start}-{'' if end == file.size_bytes or end is None else end - 1}"
            if file.validator is not None:
                headers["If-Range"] = file.validator
        with self._client.open(file.url, headers) as response:
            _check_length(file, response)
            if is_part and response.status == HTTPStatus.PARTIAL_CONTENT:
                _check_start(file, response, start)
                self._go_on_in_parts(number, segment)
            elif is_part:
                self._begin_again(number)
                start, end = 0, file.size_bytes
            return self._take(arrival, response, start, end)

    def _take(self, arrival: Arrival, response: HTTPResponse, position: int, end: int | None) -> bool:
        """Write what comes until ``end``; what a server sends beyond it is not taken."""
        unknown_bytes = 0
        while end is None or position < end:
            chunk = read_chunk(response, CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position))
            if self._stop.is_set():
                return True  # somebody else has the reason
            if not chunk:
                break
            if end is None:
                unknown_bytes -= len(chunk)
                if unknown_bytes < 0:
                    self._workspace.require_space(SEGMENT_BYTES)
                    unknown_bytes = SEGMENT_BYTES
            arrival.write(position, chunk)
            position += len(chunk)
            self._tell(len(chunk))
        return end is None or position == end

    def _go_on_in_parts(self, number: int, segment: int) -> None:
        """The server gives parts: let the others begin."""
        with self._changed:
            if number in self._in_parts:
                return
            self._in_parts.add(number)
            others = [other for other in self._arrivals[number].missing() if other != segment]
            self._tasks.extend((number, other) for other in others)
            self._changed.notify_all()

    def _begin_again(self, number: int) -> None:
        """The server sends the whole file: because it knows no parts, or because it is another one by now."""
        file = self._arrivals[number].file
        if number in self._in_parts:
            if file.validator is not None:
                raise FileChanged(file.url)
            raise LineBroken("the server sends all of the file in place of a part")
        self._tell(-self._arrivals[number].forget())

    def _tell(self, n_bytes: int) -> None:
        if n_bytes:
            with self._telling:
                self._progress.advanced(n_bytes)


def _check_length(file: RemoteFile, response: HTTPResponse) -> None:
    """What the server says of the whole file must agree with what was said before."""
    total_bytes = stated_bytes(response)
    if total_bytes is None or file.size_bytes in (None, total_bytes):
        return
    if file.validator is not None or (file.sha256 is None and file.git_id is None):
        raise FileChanged(file.url)
    if total_bytes < (file.size_bytes or 0):
        raise SourceError(
            f"{urlsplit(file.url).netloc} has {total_bytes} bytes of {file.name}, but it should be {file.size_bytes}.",
            hint="Pull again later; the file may still be on its way to that server.",
        )


def stated_bytes(response: HTTPResponse) -> int | None:
    """How long an answer says that the whole file is."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
        return None if match is None or match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else None


def _check_start(file: RemoteFile, response: HTTPResponse, start: int) -> None:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if match is not None and int(match[1]) != start:
        raise SourceError(f"{urlsplit(file.url).netloc} sent another part of {file.name} than it was asked for.")


def _checked(arrival: Arrival) -> StagedFile:
    """The file, if it is what was promised; a wrong one is deleted, or the next pull would go on from it."""
    file = arrival.file
    size_bytes = file.path.stat().st_size if file.path.exists() else 0
    if size_bytes == 0:  # an empty file causes no transfer
        file.path.touch()
    sha256, git_id = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with file.path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            sha256.update(chunk)
            if file.git_id is not None:
                git_id.update(chunk)
    try:
        check_sha256(file.name, file.sha256, sha256.hexdigest())
        if file.git_id is not None and file.git_id != git_id.hexdigest():
            raise SourceError(f"{file.name} is not the file that the hub lists; nothing was kept.", hint="Pull again.")
    except (ChecksumMismatch, SourceError):
        arrival.delete()
        raise
    return StagedFile(file.name, file.path, size_bytes, sha256.hexdigest())
