"""A file that arrives in pieces, in any order, over any number of attempts.

Beside the data lies a record of what is here of each segment. It is written after the data that it tells of, so that
whoever comes after a process that was killed goes on from bytes that are there.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SEGMENT_BYTES = 32 << 20
MAX_SEGMENTS = 1024
SAVE_EVERY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its source tells of it; what is not known is None.

    name        for sentences, and inside the model
    path        where it arrives; a source that knows the content names it after that
    git_id      sha1 of a git blob, of files for which there is no sha256
    validator   strong ETag or date, which changes when the file does; for sources that know no checksum
    """

    name: str
    url: str
    path: Path
    size_bytes: int | None
    sha256: str | None = None
    git_id: str | None = None
    validator: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Arrival:
    """What is here of one file. Any number of threads may write, each into a segment of its own."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self._segment_bytes = _segment_bytes(file.size_bytes)
        self._lock = threading.Lock()
        self._unsaved_bytes = 0
        self._done = self._load()
        self._descriptor: int | None = None

    @property
    def n_segments(self) -> int:
        """One for a file that is short, or of unknown size."""
        return len(self._done)

    @property
    def n_bytes(self) -> int:
        """How much is here."""
        with self._lock:
            return sum(self._done)

    @property
    def is_complete(self) -> bool:
        """Whether all is here; never for a file of unknown size."""
        return self.n_bytes == self.file.size_bytes

    def missing(self) -> list[int]:
        """Segments of which something is missing."""
        return [segment for segment in range(self.n_segments) if not self.has(segment)]

    def has(self, segment: int) -> bool:
        """Whether all of a segment is here."""
        start, end = self.gap(segment)
        return start == end

    def gap(self, segment: int) -> tuple[int, int | None]:
        """The first byte of a segment that is missing, and the end of the segment; None where that is not known."""
        begin = segment * self._segment_bytes
        with self._lock:
            start = begin + self._done[segment]
        return start, None if self.file.size_bytes is None else min(begin + self._segment_bytes, self.file.size_bytes)

    def write(self, position: int, data: bytes) -> None:
        """Put ``data`` at ``position``, where its segment's gap begins; it may reach into the segments after it."""
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        _write_at(self._descriptor, data, position)
        with self._lock:
            left = len(data)
            while left > 0:
                segment = min(position // self._segment_bytes, self.n_segments - 1)
                end = (segment + 1) * self._segment_bytes if segment < self.n_segments - 1 else position + left
                n_bytes = min(left, end - position)
                self._done[segment] += n_bytes
                position, left = position + n_bytes, left - n_bytes
            self._unsaved_bytes += len(data)
            if self._unsaved_bytes >= SAVE_EVERY_BYTES:
                self._save()

    def forget(self, segment: int | None = None) -> int:
        """Begin again, all of it or one segment; returns how many bytes are gone."""
        with self._lock:
            segments = range(self.n_segments) if segment is None else [segment]
            n_bytes = sum(self._done[number] for number in segments)
            for number in segments:
                self._done[number] = 0
            if segment is None and self._descriptor is not None:
                os.ftruncate(self._descriptor, 0)
            if n_bytes > 0:
                self._save()
            return n_bytes

    def close(self) -> None:
        """Note what is here for the next attempt."""
        with self._lock:
            if self._descriptor is not None:
                self._save()
                os.close(self._descriptor)
                self._descriptor = None

    def delete(self) -> None:
        """What arrived is of no use."""
        self.close()
        self.file.path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)

    @property
    def _record_path(self) -> Path:
        return self.file.path.with_name(f"{self.file.path.name}.json")

    def _open(self) -> None:
        with self._lock:
            if self._descriptor is None:
                self.file.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.file.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
                if sum(self._done) == 0:  # what lies there is of something else
                    os.ftruncate(self._descriptor, 0)

    def _load(self) -> list[int]:
        size_bytes = self.file.size_bytes
        n_segments = 1 if size_bytes is None else max(-(-size_bytes // self._segment_bytes), 1)
        nothing = [0] * n_segments
        if size_bytes is None:
            return nothing
        try:
            record = json.loads(self._record_path.read_text(encoding="utf-8"))
            done = record["done_bytes"]
            same = record["size_bytes"] == size_bytes and record["validator"] == self.file.validator
            length = self.file.path.stat().st_size
        except (OSError, ValueError, TypeError, KeyError):
            return nothing
        if not same or not isinstance(done, list) or len(done) != n_segments:
            return nothing
        for segment, n_bytes in enumerate(done):
            begin = segment * self._segment_bytes
            most_bytes = min(self._segment_bytes, size_bytes - begin)
            if not isinstance(n_bytes, int) or not 0 <= n_bytes <= most_bytes or (n_bytes and begin + n_bytes > length):
                return nothing
        return done

    def _save(self) -> None:
        self._unsaved_bytes = 0
        record = {"size_bytes": self.file.size_bytes, "validator": self.file.validator, "done_bytes": self._done}
        temporary = self._record_path.with_suffix(".new")
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self._record_path)


def _segment_bytes(size_bytes: int | None) -> int:
    """Of a file that is not worth cutting, or cannot be, all of it."""
    if size_bytes is None or size_bytes < 2 * SEGMENT_BYTES:
        return max(size_bytes or 0, SEGMENT_BYTES * 2)
    return max(SEGMENT_BYTES, -(-size_bytes // MAX_SEGMENTS))


if hasattr(os, "pwrite"):

    def _write_at(descriptor: int, data: bytes, position: int) -> None:
        view = memoryview(data)
        while view:
            n_bytes = os.pwrite(descriptor, view, position)
            view, position = view[n_bytes:], position + n_bytes

else:
    _seeking = threading.Lock()

    def _write_at(descriptor: int, data: bytes, position: int) -> None:
        view = memoryview(data)
        with _seeking:
            os.lseek(descriptor, position, os.SEEK_SET)
            while view:
                view = view[os.write(descriptor, view) :]
