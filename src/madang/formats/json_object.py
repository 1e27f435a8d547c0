"""One JSON object in a file that nobody has checked yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from madang.core.errors import MalformedFile
from madang.core.units import format_bytes


def read_text(file: Path, max_bytes: int) -> str:
    """UTF-8 text of at most ``max_bytes``; anything else is a MalformedFile."""
    size_bytes = file.stat().st_size
    if size_bytes > max_bytes:
        raise MalformedFile(file, f"it has {format_bytes(size_bytes)}, at most {format_bytes(max_bytes)} are read")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise MalformedFile(file, "it is not UTF-8 text") from None


def read_json(file: Path, max_bytes: int) -> Any:
    """The file's JSON value, NaN and infinities included; MalformedFile when it is none."""
    try:
        return json.loads(read_text(file, max_bytes))
    except (ValueError, RecursionError) as error:
        raise MalformedFile(file, f"it is not JSON ({error})") from None


def read_json_object(file: Path, max_bytes: int) -> dict[str, Any]:
    """The file's JSON object; empty when there is no such file, MalformedFile when it holds anything else."""
    if not file.is_file():
        return {}
    value = read_json(file, max_bytes)
    if not isinstance(value, dict):
        raise MalformedFile(file, "it holds no JSON object")
    return value
