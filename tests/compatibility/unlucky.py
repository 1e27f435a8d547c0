"""An engine for what no healthy one does: it breaks in the middle of an answer, or takes long to begin one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madang.core import EngineInfo, Event, Request, TextDelta
from madang.core.errors import EngineError
from madang.engines.echo import EchoEngine

SLOW_S = 11.0  # more than the server lets a stream be silent
ROOT = Path(__file__).parents[2]


class UnluckyEngine:
    """Repeats a message that begins with "slow", late; breaks with all others."""

    def __init__(self) -> None:
        self._echo = EchoEngine()
        self.info = EngineInfo("unlucky", "unlucky", self._echo.info.context_tokens)

    def generate(self, request: Request) -> Iterator[Event]:
        """See core.engine.Engine."""
        if request.messages[-1].content.startswith("slow"):
            time.sleep(SLOW_S)
            yield from self._echo.generate(request)
            return
        yield TextDelta("so far")
        raise EngineError("It broke.")

    def close(self) -> None:
        """Nothing to free."""


def load(*_: Any) -> UnluckyEngine:
    """See engines.table.Loader."""
    return UnluckyEngine()


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """For processes that are started meanwhile, as a package of someone else's would be."""
    metadata = folder / "unlucky-1.0.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: unlucky\nVersion: 1.0\n")
    metadata.joinpath("entry_points.txt").write_text(f"[madang.engines]\nunlucky = {__name__}:load\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), str(ROOT), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
