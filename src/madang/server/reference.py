"""Writes ``docs/reference/openapi.json`` from the routes: ``python -m madang.server.reference [--check] [FILE]``."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from madang.core.engine import Loaded
from madang.core.errors import ModelNotFound
from madang.core.settings import load_settings
from madang.models import Store
from madang.server.app import create_app
from madang.server.state import ServerState

DEFAULT_PATH = Path("docs/reference/openapi.json")


def document() -> str:
    """The whole document."""
    home = Path("home")  # nothing is read from it or written to it
    state = ServerState(pool=_NoPool(), store=Store(home), settings=load_settings({"home": home}, {}))
    return json.dumps(create_app(state).openapi(), indent=2, ensure_ascii=False) + "\n"


def main(args: list[str]) -> int:
    """Write the document; with ``--check``, only say whether the file is what would be written."""
    names = [arg for arg in args if arg != "--check"]
    path = Path(names[0]) if names else DEFAULT_PATH
    text = document()
    if "--check" in args:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        print(f"{path} is out of date; write it with: python -m madang.server.reference", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0


class _NoPool:
    """For an application that answers nothing."""

    def lease(self, reference: str, *, keep_alive_s: float | None = None) -> AbstractContextManager[Loaded]:
        """There is none."""
        raise ModelNotFound(reference)

    def unload(self, reference: str) -> bool:
        """There is none."""
        return False

    def resident(self) -> list[Any]:
        """There are none."""
        return []

    def close(self) -> None:
        """Nothing to do."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
