"""Datasets of a hub on this machine, read with the real library in a process of its own: it keeps its settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from madang.core.errors import InvalidRequest, NetworkUnavailable
from madang.core.settings import load_settings
from madang.training.examples.hub import HubDataset, hub_stream, parse_hub_name, read_hub
from tests.models.standins import DatasetHub

CARD = b"""---
configs:
- config_name: main
  data_files: [{split: train, path: main.jsonl}]
- config_name: other
  data_files: [{split: train, path: other.jsonl}]
---
"""
READ = """
import json, sys
from madang.core.errors import MadangError
from madang.training.examples.hub import read_hub

found = {}
for name in sys.argv[1:]:
    try:
        found[name] = [list(row) for row in read_hub(name)]
    except MadangError as error:
        found[name] = f"{error.code}: {error.message}"
print(json.dumps(found))
"""


def test_names() -> None:
    assert parse_hub_name("hf:o/n") == HubDataset("o/n")
    assert parse_hub_name("hf:o/n/main@refs/pr/1#test[:10]") == HubDataset("o/n", "main", "refs/pr/1", "test[:10]")
    for name in ("hf:name", "hf:o/n/a/b", "hf:o/n#"):
        with pytest.raises(InvalidRequest, match="names no dataset"):
            parse_hub_name(name)


def test_rows_are_numbered() -> None:
    assert list(read_hub("hf:o/n", lambda dataset: [dataset.split, "b"])) == [(1, "train"), (2, "b")]


def test_nothing_is_fetched_offline() -> None:
    with pytest.raises(NetworkUnavailable, match="offline"):
        list(hub_stream(load_settings({"offline": True}, {}))(HubDataset("o/n")))


def test_a_hub_is_read(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    hub = DatasetHub(revisions=("main", "v1"))
    hub.small = {
        "README.md": CARD,
        "main.jsonl": b'{"text": "\xea\xb0\x80"}\n{"text": "b"}\n',
        "other.jsonl": b'{"q": 1}\n',
    }
    server = hub.start()
    names = ["/main", "/other@v1", "", "/main#test", "/nothing", "/main@v9"]
    names = [f"hf:org/rows{name}" for name in names] + ["hf:org/gated", "hf:org/missing"]
    try:
        found = read(hub, tmp_path, names)
    finally:
        server.shutdown()
        server.server_close()
    assert found.pop("hf:org/rows/main") == [[1, {"text": "가"}], [2, {"text": "b"}]]
    assert found.pop("hf:org/rows/other@v1") == [[1, {"q": 1}]]
    for name, expected in {
        "hf:org/rows": "invalid_request: Config name is missing",
        "hf:org/rows/main#test": "invalid_request: Bad split",
        "hf:org/rows/nothing": "invalid_request: not found",
        "hf:org/rows/main@v9": "source_error: Revision",
        "hf:org/gated": "source_error: gated",
        "hf:org/missing": "source_error: doesn't exist",
    }.items():
        code, words = expected.split(": ")
        assert found[name].startswith(f"{code}: The dataset org/") and words in found[name], found[name]


def read(hub: DatasetHub, home: Path, names: list[str]) -> dict[str, Any]:
    """What each name gives, in a process whose caches are in ``home``."""
    environment = {**os.environ, "HF_HOME": str(home), "MADANG_HOME": str(home), "MADANG_HF_ENDPOINT": hub.url}
    done = subprocess.run([sys.executable, "-c", READ, *names], env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found
