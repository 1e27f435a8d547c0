"""The real huggingface_hub against a hub on this machine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from madang.core import SamplingParams
from madang.core.errors import (
    ChecksumMismatch,
    InvalidReference,
    InvalidRequest,
    ModelNotFound,
    NetworkUnavailable,
    NotEnoughDisk,
    SourceError,
)
from madang.core.settings import load_settings
from madang.models import HubReference, ModelFiles, Progress, Sources, Store, parse_reference, pull, sources_of
from madang.models.connections import Client, Connections
from madang.models.sources.huggingface import HuggingFaceSource
from tests.models.standins import Hub, Interrupting, Recorder

MODEL = b"GGUF" + bytes(range(256)) * 4000
CUT = 300_000


def fetch(hub: Hub, store: Store, text: str = "hf:org/repo", progress: Progress | None = None) -> ModelFiles:
    return pull(parse_reference(text), store, progress, Sources(hub=HuggingFaceSource(endpoint=hub.url, token=False)))


def left_over(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file(hub: Hub, store: Store) -> None:
    hub.large = {"m-Q4_K_M.gguf": MODEL, "m-Q8_0.gguf": MODEL + b"8"}
    progress = Recorder()
    files = fetch(hub, store, progress=progress)
    assert files.path.read_bytes() == MODEL
    assert (files.name, files.format) == ("hf:org/repo", "gguf")
    assert files.source == f"hf:org/repo/m-Q4_K_M.gguf@{hub.commit}"
    assert (progress.totals, sum(progress.steps), progress.n_finished) == ([len(MODEL)], len(MODEL), 1)
    assert not list((store.root / "partial").iterdir())
    named = fetch(hub, store, f"hf:org/repo/m-Q8_0.gguf@{hub.commit}")
    assert named.path.read_bytes() == MODEL + b"8"
    assert [files.name for files in store.list()] == ["hf:org/repo", named.name]


def test_what_is_here_needs_no_hub(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    fetch(hub, store)
    n_requests = len(hub.requests)
    progress = Recorder()
    assert fetch(hub, store, progress=progress).path.read_bytes() == MODEL
    assert len(hub.requests) == n_requests
    assert progress.totals == []


def test_a_folder(hub: Hub, store: Store) -> None:
    hub.large = {"model.safetensors": MODEL, "pytorch_model.bin": b"pickle"}
    hub.small = {"config.json": b"{}", "generation_config.json": b'{"temperature": 0.6}', "README.md": b"# hi"}
    hub.small["tokenizer.json"] = b"{}"
    files = fetch(hub, store)
    assert files.format == "huggingface"
    assert sorted(path.name for path in files.path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert files.sampling_defaults == SamplingParams(temperature=0.6)
    assert files.source == f"hf:org/repo@{hub.commit}"


def test_a_connection_that_breaks_once_is_taken_up_again(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    hub.cut_after = [CUT]
    progress = Recorder()
    assert fetch(hub, store, progress=progress).path.read_bytes() == MODEL
    assert sum(progress.steps) == len(MODEL)
    assert hub.ranges()[0] is None
    assert hub.ranges()[1] is not None


def test_an_interrupted_pull_resumes(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    hub.cut_after = [CUT]
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, store, progress=Interrupting())
    assert store.find(HubReference("org/repo")) is None
    partial = max(left_over(store), key=lambda path: path.stat().st_size)
    here = partial.stat().st_size
    assert 0 < here < len(MODEL)
    progress = Recorder()
    assert fetch(hub, store, progress=progress).path.read_bytes() == MODEL
    assert hub.ranges()[-1] == f"bytes={here}-"
    assert progress.steps[0] == here
    assert sum(progress.steps) == len(MODEL)


def test_other_content_is_never_continued(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    hub.cut_after = [CUT]
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, store, progress=Interrupting())
    changed = bytes(reversed(MODEL))
    hub.large, hub.commit = {"m.gguf": changed}, "d" * 40
    assert fetch(hub, store).path.read_bytes() == changed
    assert hub.ranges()[-1] is None


def test_a_hub_that_ignores_ranges(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    hub.cut_after = [CUT]
    with pytest.raises(KeyboardInterrupt):
        fetch(hub, store, progress=Interrupting())
    hub.ignores_ranges = True
    progress = Recorder()
    assert fetch(hub, store, progress=progress).path.read_bytes() == MODEL
    assert sum(progress.steps) == len(MODEL)


@pytest.mark.parametrize("wrong", [bytes(reversed(MODEL)), b"GGUF" * 256_001])
def test_wrong_content_leaves_nothing(hub: Hub, store: Store, wrong: bytes) -> None:
    hub.large = {"m.gguf": MODEL}
    hub.served = {"m.gguf": wrong}
    assert len(wrong) == len(MODEL)
    with pytest.raises(ChecksumMismatch):
        fetch(hub, store)
    assert left_over(store) == []


def test_small_files_are_checked_too(hub: Hub, store: Store) -> None:
    hub.large = {"model.safetensors": MODEL}
    hub.small = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}"}
    hub.served = {"config.json": b'{"a": 2}'}
    with pytest.raises(SourceError, match=r"config\.json is not the file"):
        fetch(hub, store)
    assert store.list() == []
    assert b'{"a": 2}' not in [path.read_bytes() for path in left_over(store)]


def test_a_gated_repository(hub: Hub, store: Store) -> None:
    hub.large, hub.gated = {"m.gguf": MODEL}, True
    with pytest.raises(SourceError, match="gated") as caught:
        fetch(hub, store)
    assert "hf auth login" in (caught.value.hint or "")
    assert store.list() == []


def test_what_does_not_exist(hub: Hub, store: Store) -> None:
    hub.large = {"m-Q8_0.gguf": MODEL, "m-F16.gguf": MODEL}
    with pytest.raises(ModelNotFound):
        fetch(hub, store, "hf:org/other")
    with pytest.raises(ModelNotFound):
        fetch(hub, store, "hf:org/repo@nowhere")
    with pytest.raises(InvalidReference, match="say which one"):
        fetch(hub, store)
    with pytest.raises(InvalidReference, match="holds no file"):
        fetch(hub, store, "hf:org/repo/x.gguf")
    assert left_over(store) == []


def test_hostile_names(hub: Hub, store: Store) -> None:
    hub.large = {"../../../evil.gguf/..": MODEL, "sub/../../evil.gguf": MODEL}
    with pytest.raises(SourceError, match="holds no model"):
        fetch(hub, store)
    assert left_over(store) == []


def test_no_network(store: Store) -> None:
    nowhere = Hub(url="http://127.0.0.1:9")
    with pytest.raises(NetworkUnavailable):
        fetch(nowhere, store)


def test_something_that_is_no_hub(hub: Hub, store: Store) -> None:
    with pytest.raises(SourceError, match="does not answer like"):
        fetch(hub, store, "hf:odd/repo")


def test_no_disk_space(hub: Hub, tmp_path: Path) -> None:
    hub.large = {"m.gguf": MODEL}
    store = Store(tmp_path / "home", free_bytes=lambda folder: len(MODEL) - 1)
    with pytest.raises(NotEnoughDisk):
        fetch(hub, store)
    assert hub.ranges() == []


@pytest.mark.parametrize("endpoint", ["hub.example.org", "https://name:secret@host", "file:///etc", ""])
def test_an_address_of_a_hub_that_is_none(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="address of a hub"):
        HuggingFaceSource(endpoint=endpoint)


def test_the_settings_name_another_hub(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    settings = load_settings({}, {"MADANG_HOME": str(store.root), "MADANG_HF_ENDPOINT": f"{hub.url}/"})
    assert pull(parse_reference("hf:org/repo"), store, None, sources_of(settings)).path.read_bytes() == MODEL


def test_a_hub_that_is_busy_for_a_while(hub: Hub, store: Store) -> None:
    hub.large, hub.busy = {"m.gguf": MODEL}, 3
    client = Client(Connections(retry_s=0.01))
    source = HuggingFaceSource(endpoint=hub.url, token=False, client=client)
    assert pull(parse_reference("hf:org/repo"), store, None, Sources(hub=source)).path.read_bytes() == MODEL
    assert hub.busy == 0


def test_a_shard_that_is_shorter_than_the_hub_says(hub: Hub, store: Store) -> None:
    names = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    hub.large = dict.fromkeys(names, MODEL)
    hub.small = {"config.json": b"{}", "tokenizer.json": b"{}"}
    hub.served = {names[1]: MODEL[:-9]}
    with pytest.raises(SourceError, match=names[1]):
        fetch(hub, store)
    assert store.list() == []


def test_several_files_come_side_by_side(hub: Hub, store: Store) -> None:
    names = [f"model-{number:05}-of-00004.safetensors" for number in (1, 2, 3, 4)]
    hub.large = {name: MODEL + name.encode() for name in names}
    hub.small = {"config.json": b"{}", "tokenizer.json": b"{}"}
    hub.meeting = threading.Barrier(2)
    files = fetch(hub, store)
    assert all((files.path / name).read_bytes() == content for name, content in hub.large.items())


def test_the_commit_is_kept(hub: Hub, store: Store) -> None:
    hub.large = {"m.gguf": MODEL}
    files = fetch(hub, store, "hf:org/repo/m.gguf@main")
    assert files.source == f"hf:org/repo/m.gguf@{hub.commit}"
