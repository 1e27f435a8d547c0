"""The one way from a digest to the name of a file, in our store and in Ollama's, which is laid out alike."""

from __future__ import annotations

import re

from madang.core.errors import InvalidReference

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def blob_name(digest: str) -> str:
    """``sha256-`` and 64 hexadecimal digits. Raises InvalidReference for what is not a sha256 digest."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidReference(f"'{digest}' is not a sha256 digest.", param="digest")
    return f"sha256-{match[1]}"
