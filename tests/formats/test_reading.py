"""Files that change, vanish or were never files while they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import MalformedFile, ModelNotFound
from madang.formats.reading import OpenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    return path


def test_any_part(path: Path) -> None:
    with OpenFile(path) as file:
        assert file.size_bytes == 200
        assert np.array_equal(file.read(150, 50), np.arange(150, 200))
        assert np.array_equal(file.read(3, 2), [3, 4])
        assert file.read(200, 0).size == 0


def test_one_that_is_cut_short_meanwhile(path: Path) -> None:
    with OpenFile(path) as file:
        path.write_bytes(b"short")
        with pytest.raises(MalformedFile, match="became shorter while it was read"):
            file.read(0, 200)
        assert file.read(0, 5).tobytes() == b"short"


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        OpenFile(tmp_path / "nothing")
    with pytest.raises(MalformedFile, match="folder"):
        OpenFile(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(MalformedFile, match="empty"):
        OpenFile(tmp_path / "empty")
