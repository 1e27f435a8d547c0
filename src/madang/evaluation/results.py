"""Documents of whole comparisons, a file each, so that they can be looked at again."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from madang.core.errors import NotFound
from madang.core.writing import write_atomically

FOLDER: Final = "comparisons/results"  # below home
MOST_KEPT: Final = 100  # the oldest goes when there are more
MAX_BYTES: Final = 32 << 20
_ID: Final = re.compile(r"cmp-[0-9]{14}-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A comparison that is over. Ids sort by time."""

    id: str
    document: Mapping[str, Any]


def new_result_id() -> str:
    """The next one."""
    return f"cmp-{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"


class Results:
    """Those below a home folder, of this process and others."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def keep(self, document: Mapping[str, Any], id: str | None = None) -> str:
        """Write it down; returns its id. Raises NotEnoughDisk, OSError."""
        id = new_result_id() if id is None else id
        write_atomically(self._path(id), json.dumps(document, ensure_ascii=False) + "\n")
        for path in self._paths()[MOST_KEPT:]:
            path.unlink(missing_ok=True)
        return id

    def list(self) -> Sequence[KeptResult]:
        """All that can be read, the newest first."""
        found = (self._read(path) for path in self._paths())
        return [one for one in found if one is not None]

    def get(self, id: str) -> KeptResult:
        """Raises NotFound."""
        found = self._read(self._path(id)) if _ID.fullmatch(id) else None
        if found is None:
            raise NotFound("comparison", id)
        return found

    def remove(self, id: str) -> None:
        """Raises NotFound. What was measured stays, so that the same comparison is quick another time."""
        self.get(id)
        self._path(id).unlink(missing_ok=True)

    def _paths(self) -> Sequence[Path]:
        paths = self._folder.glob("cmp-*.json") if self._folder.is_dir() else ()
        return sorted((path for path in paths if _ID.fullmatch(path.stem)), reverse=True)

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _read(self, path: Path) -> KeptResult | None:
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # removed, or damaged by others
            return None
        is_one = isinstance(document, dict) and isinstance(document.get("models"), list)
        return KeptResult(path.stem, document) if is_one else None
