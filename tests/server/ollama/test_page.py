"""The page on this API names every field and option."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.models.parameters import KNOWN
from madang.server.ollama.asking import CHAT, GENERATE
from madang.server.ollama.body import Fields
from madang.server.ollama.embedding import EMBED, EMBEDDINGS
from madang.server.ollama.making import CREATE
from madang.server.ollama.pulling import PULL

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "ollama.md"


@pytest.mark.parametrize("fields", [CHAT, GENERATE, EMBED, EMBEDDINGS, CREATE, PULL])
def test_fields(fields: Fields) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in {*fields.honoured, *fields.ignored, *fields.refused} - {"name"}:
        assert f"`{name}`" in text


def test_options() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in KNOWN:
        assert f"`{name}`" in text
