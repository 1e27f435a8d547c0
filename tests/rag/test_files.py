"""Files to read: what is named, what folders hold, and what stays outside."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from madang.core.errors import DocumentError, Forbidden, NotFound
from madang.rag.files import digest_of, find_files, read_file
from madang.rag.parsing import ParsingLimits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, and what stands beside them in real folders."""
    root = tmp_path / "documents"
    for name in (
        *("b.md", "a.txt", "README", "sub/c.pdf", "sub/deep/d.hwpx", "movie.mp4", ".secret.txt", ".git/config.md"),
        *("node_modules/x/README.md", "~$a.docx", "Thumbs.db"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.txt").write_text("private", encoding="utf-8")
    (root / "link.txt").symlink_to(outside / "private.txt")
    (root / "linked").symlink_to(outside, target_is_directory=True)
    os.mkfifo(root / "pipe.txt")
    return root


def test_folders_are_read_with_what_is_below(folder: Path) -> None:
    found = find_files([folder])
    names = [path.relative_to(folder).as_posix() for path in found.files]
    assert names == ["README", "a.txt", "b.md", "sub/c.pdf", "sub/deep/d.hwpx"]
    assert found.skipped == {"hidden": 2, "ignored": 3, "other formats": 1, "links": 2, "no files": 1}


def test_a_file_that_is_named_is_taken_once_and_whatever_it_is(folder: Path) -> None:
    hidden, movie = folder / ".secret.txt", folder / "movie.mp4"
    found = find_files([movie, hidden, str(movie), folder / "sub" / ".." / "movie.mp4", folder])
    assert found.files[:2] == (movie.resolve(), hidden.resolve())
    assert len(found.files) == 7


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", "a\0b", "~nobody-of-this-name/x"):
        with pytest.raises(NotFound, match="There is no file or folder"):
            find_files([path])


def test_nothing_outside_of_the_roots_is_read(folder: Path) -> None:
    roots = [folder]
    assert find_files([folder / "a.txt"], roots=roots).files == ((folder / "a.txt").resolve(),)
    for path in (
        *(folder.parent, folder / ".." / "outside", folder.parent / "documents-2"),
        *(folder / "link.txt", folder / "linked" / "private.txt", "/etc/passwd", folder.parent / "missing"),
    ):
        with pytest.raises(Forbidden, match="is outside of the folders that may be read here"):
            find_files([path], roots=roots)
    with pytest.raises(Forbidden):
        find_files([folder], roots=[])


def test_a_link_that_is_named_is_followed(folder: Path) -> None:
    (path,) = find_files([folder / "link.txt"]).files
    assert path == (folder.parent / "outside" / "private.txt").resolve()


def test_a_file_is_read_with_its_digest(folder: Path) -> None:
    data, digest = read_file(folder / "a.txt")
    assert data == b"a.txt"
    assert digest == digest_of(data) == "sha256:" + hashlib.sha256(data).hexdigest()


def test_a_file_is_not_read_past_the_limit(folder: Path) -> None:
    with pytest.raises(DocumentError, match="it has 5 B, and 4 B is the limit"):
        read_file(folder / "a.txt", ParsingLimits(file_bytes=4))
