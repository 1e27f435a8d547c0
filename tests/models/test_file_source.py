from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.core import SamplingParams
from madang.core.errors import MalformedFile, ModelNotFound
from madang.models import FileReference, Store, pull
from tests.models.standins import Recorder


def test_a_file_is_used_where_it_is(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF....")
    progress = Recorder()
    files = pull(FileReference(path), store, progress)
    assert (files.path, files.format, files.size_bytes, files.source) == (path, "gguf", 8, f"file:{path}")
    assert progress.totals == []
    assert not store.root.exists()


def test_folders(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "one.gguf").write_bytes(b"GGUF")
    assert pull(FileReference(folder), store).path == folder / "one.gguf"
    (folder / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(MalformedFile, match="2 GGUF files"):
        pull(FileReference(folder), store)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345")
    config = {"temperature": 0.6, "top_k": 0, "top_p": 7, "min_p": True, "repetition_penalty": 1.1, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(config))
    files = pull(FileReference(folder), store)
    assert (files.path, files.format, files.size_bytes) == (folder, "huggingface", 5)
    assert files.sampling_defaults == SamplingParams(temperature=0.6, top_k=0, repeat_penalty=1.1)
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(MalformedFile, match="not a JSON object"):
        pull(FileReference(folder), store)


def test_what_is_no_model(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        pull(FileReference(tmp_path / "missing.gguf"), store)
    with pytest.raises(MalformedFile):
        pull(FileReference(tmp_path), store)
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(MalformedFile, match="does not begin like a GGUF"):
        pull(FileReference(tmp_path / "text.gguf"), store)
