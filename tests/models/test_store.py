from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core import SamplingParams
from madang.core.errors import InvalidReference, MalformedFile, ModelNotFound, NotEnoughDisk
from madang.models import (
    FileReference,
    HubReference,
    Manifest,
    ManifestFile,
    NameReference,
    PackageReference,
    Store,
    StoredReference,
    parse_reference,
)
from madang.models.fetching import StagedFile
from tests.models.standins import sha256

A, B = NameReference("a", "1"), NameReference("b", "1")
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def put(store: Store, reference: StoredReference, files: dict[str, bytes], **fields: object) -> Manifest:
    """A model in the store, through the same door that pulls use."""
    folder = store.partial_path(reference)
    folder.mkdir(parents=True)
    staged = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / str(number)
        path.write_bytes(content)
        staged.append(StagedFile(name, path, len(content), sha256(content)))
    manifest = Manifest(
        reference=reference,
        format="gguf" if len(files) == 1 else "huggingface",
        source="test",
        files=tuple(ManifestFile(file.name, file.size_bytes, f"sha256:{file.sha256}") for file in staged),
        modified=NOW,
        **fields,  # type: ignore[arg-type]
    )
    store.commit(manifest, staged)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return manifest


def blobs(store: Store) -> set[bytes]:
    return {path.read_bytes() for path in (store.root / "blobs").glob("*")}


def test_reading_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    assert store.list() == []
    assert store.find(A) is None
    with pytest.raises(ModelNotFound):
        store.show(A)
    with pytest.raises(ModelNotFound):
        store.remove(A)
    assert not (tmp_path / "home").exists()


def test_a_file_goes_in_and_out(store: Store) -> None:
    put(store, A, {"x.gguf": b"GGUF1"}, sampling=SamplingParams(temperature=0.0, seed=0))
    files = store.find(A)
    assert files is not None
    assert files.path.read_bytes() == b"GGUF1"
    assert (files.name, files.format, files.size_bytes, files.modified) == ("a:1", "gguf", 5, NOW)
    assert files.sampling_defaults == SamplingParams(temperature=0.0, seed=0)  # 0 is a value
    assert store.list() == [files]
    assert store.show(A).files[0].digest == f"sha256:{sha256(b'GGUF1')}"
    assert store.remove(A) == 5
    assert store.list() == []
    assert blobs(store) == set()
    assert not list((store.root / "manifests").iterdir())


def test_a_folder_appears_under_its_own_names(store: Store) -> None:
    put(store, A, {"config.json": b"{}", "1_Pooling/config.json": b"{ }", "model.safetensors": b"x"})
    files = store.find(A)
    assert files is not None
    assert (files.path / "1_Pooling/config.json").read_bytes() == b"{ }"
    store.remove(A)
    assert not files.path.exists()


def test_blobs_are_shared_and_outlive_one_owner(store: Store) -> None:
    put(store, A, {"x.gguf": b"same"})
    put(store, B, {"y.gguf": b"same"})
    assert blobs(store) == {b"same"}
    assert store.remove(A) == 0
    assert store.find(B) is not None
    assert store.remove(B) == 4


def test_an_incomplete_model_is_not_there(store: Store) -> None:
    put(store, A, {"x.gguf": b"12345"})
    blob = next((store.root / "blobs").iterdir())
    blob.write_bytes(b"123")
    assert store.find(A) is None
    assert store.list() == []
    put(store, A, {"x.gguf": b"12345"})  # as a repeated pull would
    assert store.find(A) is not None
    blob.unlink()
    assert store.find(A) is None
    store.remove(A)


def test_a_file_elsewhere_is_referenced_until_it_changes(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.gguf"
    outside.write_bytes(b"GGUF")
    status = outside.stat()
    file = ManifestFile("elsewhere.gguf", status.st_size, path=str(outside), modified_ns=status.st_mtime_ns)
    files = store.commit(Manifest(A, "gguf", "another store", (file,), NOW))
    assert files.path == outside
    assert not list((store.root / "blobs").glob("*"))
    os.utime(outside, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert store.find(A) is None
    assert store.remove(A) == 0
    assert outside.exists()


def test_a_damaged_manifest_is_named_and_keeps_every_blob(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    put(store, A, {"x.gguf": b"a"})
    put(store, B, {"x.gguf": b"b"})
    store.manifest_path(A).write_text("{")
    for _ in range(2):  # named once in the log, and the others are listed
        assert [files.name for files in store.list()] == ["b:1"]
    assert [str(store.manifest_path(A)) in record.message for record in caplog.records] == [True]
    for read in (lambda: store.find(A), lambda: store.show(A)):
        with pytest.raises(MalformedFile) as caught:
            read()
        assert str(store.manifest_path(A)) in (caught.value.hint or "")
    store.remove(B)
    assert blobs(store) == {b"a", b"b"}
    store.remove(A)
    assert blobs(store) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"format": "onnx"},
        {"reference": "file:/etc/passwd"},
        {"reference": "A:1"},
        {"files": []},
        {"files": [{"name": "../x", "size_bytes": 1, "digest": "sha256:" + "0" * 64}]},
        {"files": [{"name": "x", "size_bytes": 1, "digest": "sha256:../../../x"}]},
        {"files": [{"name": "x", "size_bytes": -1, "digest": "sha256:" + "0" * 64}]},
        {"files": [{"name": "x", "size_bytes": 1}]},
        {"files": [{"name": "x", "size_bytes": 1, "unknown": 1}]},
        {"modified": "yesterday"},
        {"sampling": {"temperature": -1}},
        {"sampling": {"heat": 1}},
    ],
)
def test_manifests_are_not_trusted(store: Store, change: dict[str, object]) -> None:
    put(store, A, {"x.gguf": b"a"})
    path = store.manifest_path(A)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((MalformedFile, InvalidReference)):
        store.find(A)


def test_a_second_holder_waits(store: Store) -> None:
    order: list[str] = []

    def second() -> None:
        with store.lock(A):
            order.append("second")

    with store.lock(A), store.lock(B):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_abandoned_pulls_are_cleaned_when_nobody_works_on_them(store: Store) -> None:
    for reference in (A, B):
        folder = store.partial_path(reference)
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"123")
    assert store.clean_abandoned() == 0  # too young
    with store.lock(B):
        assert store.clean_abandoned(older_than_s=0) == 3
    assert not store.partial_path(A).exists()
    assert store.partial_path(B).exists()
    assert store.remove(B) == 3


def test_disk_space_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "home", free_bytes=lambda folder: 10)
    store.require_space(10)
    with pytest.raises(NotEnoughDisk) as caught:
        store.require_space(11)
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (11, 10)
    assert Store(tmp_path / "not" / "yet").free_bytes() > 0


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "other", "sha256-../x"])
def test_only_digests_are_blobs(store: Store, digest: str) -> None:
    with pytest.raises(InvalidReference):
        store.blob_path(digest)


words = st.text(max_size=40) | st.sampled_from(["..", ".", "/", "\\", "a/../..", "C:", "nul\x00", "~", "%2e%2e"])
references = (
    st.builds(NameReference, words, words)
    | st.builds(HubReference, words, st.none() | words, st.none() | words)
    | st.builds(PackageReference, words, st.none() | words)
)


@given(references, words)
def test_nothing_leaves_the_root(reference: StoredReference, digest: str) -> None:
    """Not even for references that no parser made."""
    store = Store(Path("/home/of/madang"))
    paths = [store.manifest_path, store.folder_path, store.partial_path]
    for path_of, argument in [*((path_of, reference) for path_of in paths), (store.blob_path, digest)]:
        try:
            path = path_of(argument)  # type: ignore[arg-type]
        except InvalidReference:
            continue
        assert Path(os.path.normpath(path)) == path
        assert path.is_relative_to(store.root)
        assert path != store.root
        assert "\x00" not in str(path)


@given(st.text(max_size=80))
def test_every_readable_reference_has_a_place(text: str) -> None:
    store = Store(Path("/home/of/madang"))
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    if not isinstance(reference, FileReference):
        assert store.manifest_path(reference).is_relative_to(store.root / "manifests")
