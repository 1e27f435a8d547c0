"""ZIP archives from strangers: what is unpacked is counted while it is read, whatever the archive says of itself."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from madang.core.errors import DocumentError
from madang.core.units import format_bytes
from madang.rag.parsing.limits import ParsingLimits

_PIECE_BYTES: Final = 1 << 16
_ENCRYPTED: Final = 1  # bit of an entry's flags


class Archive:
    """The files inside a document. Raises DocumentError for what is damaged, encrypted or past a limit."""

    def __init__(self, name: str, data: bytes, limits: ParsingLimits) -> None:
        self._name = name
        self._limits = limits
        self._left_bytes = limits.expanded_bytes
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
            raise self._damaged() from error
        self.names = self._zip.namelist()
        if len(self.names) > limits.zip_entries:
            problem = f"it has {len(self.names):,} files inside, and {limits.zip_entries:,} is the limit"
            raise DocumentError(name, problem, hint="Save it again.")

    def read(self, entry: str) -> Iterator[bytes]:
        """The content of a file inside, in pieces."""
        try:
            info = self._zip.getinfo(entry)
        except KeyError:
            raise self._damaged() from None
        if info.flag_bits & _ENCRYPTED:
            raise DocumentError(self._name, "it is encrypted", hint="Save it without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DocumentError(self._name, "its files are packed in a way that madang does not read")
        try:
            with self._zip.open(info) as file:
                while piece := file.read(_PIECE_BYTES):
                    self._count(len(piece))
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
            raise self._damaged() from error

    def _count(self, n_bytes: int) -> None:
        self._left_bytes -= n_bytes
        if self._left_bytes < 0:
            problem = f"its files unpack to more than {format_bytes(self._limits.expanded_bytes)}, which is the limit"
            raise DocumentError(self._name, problem)

    def _damaged(self) -> DocumentError:
        return DocumentError(self._name, "it is damaged: the archive inside is not whole", hint="Save it again.")
