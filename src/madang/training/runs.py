"""The folder of a run: ``runs/<id>`` below home."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from madang.core.errors import MalformedFile, NotFound
from madang.core.writing import write_atomically
from madang.training.config import TuneConfig, config_of, read_values, write_config
from madang.training.journal import FILE, Journal

FOLDER: Final = "runs"
_ID: Final = re.compile(r"[a-z]+-[0-9]{14}-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where everything of one run is. ``adapter`` or ``model`` is there when it has ended."""

    path: Path

    @property
    def id(self) -> str:
        """As people name it."""
        return self.path.name

    @property
    def adapter(self) -> Path:
        """The PEFT folder of a LoRA run."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The Hugging Face folder of a full run."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def journal(self) -> Journal:
        """Its log."""
        return Journal(self.path / FILE)

    def config(self) -> TuneConfig:
        """As it was started."""
        return config_of(read_values(str(self.path / "config.toml")))

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep a JSON document."""
        write_atomically(self.path / f"{name}.json", json.dumps(document, ensure_ascii=False, indent=1) + "\n")

    def read(self, name: str) -> dict[str, Any] | None:
        """The document, None where there is none. Raises MalformedFile."""
        path = self.path / f"{name}.json"
        if not path.exists():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise MalformedFile(path, "not JSON") from error
        return found


def new_run_id(kind: str = "tune") -> str:
    """Ids of one kind sort by time."""
    return f"{kind}-{datetime.now(UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"


def make_run(home: Path, config: TuneConfig, id: str) -> RunFolder:
    """A folder with nothing but its config."""
    run = RunFolder(home / FOLDER / id)
    run.path.mkdir(parents=True)
    write_config(run.path / "config.toml", config)
    return run


def find_run(home: Path, id: str) -> RunFolder:
    """Raises NotFound."""
    run = RunFolder(home / FOLDER / id)
    if not _ID.fullmatch(id) or not (run.path / "config.toml").is_file():
        raise NotFound("run", id, hint=f"Runs are below {home / FOLDER}.")
    return run
