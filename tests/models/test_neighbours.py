"""Models of other programs: found where those keep them, used from there, and never touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from madang.core import Message
from madang.core.errors import FileLost, InvalidRequest, MalformedFile, NetworkUnavailable, SourceError
from madang.models import (
    Folder,
    FoundModel,
    ModelFiles,
    Preset,
    Sources,
    Store,
    StoredReference,
    copy_model,
    find_neighbours,
    import_model,
    parse_reference,
    pull,
)
from madang.models.connections import Client, Connections
from madang.models.neighbours import HuggingFaceCache, LMStudio, OllamaStore
from madang.models.sources.huggingface import HuggingFaceSource
from madang.models.sources.ollama import OllamaSource
from tests.models.registry import LAYER, Registry
from tests.models.standins import Hub, Recorder, sha256

COMMIT = "c" * 40
GGUF = b"GGUF\x03\0\0\0" + bytes(16) + bytes(5000)
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
FOLDER = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "model.safetensors": SAFETENSORS}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hub_cache(folder: Path, repo: str, files: dict[str, bytes], *, main: bool = True) -> HuggingFaceCache:
    """As huggingface_hub leaves it."""
    repository = folder / f"models--{repo.replace('/', '--')}"
    if main:
        write(repository / "refs" / "main", COMMIT.encode())
    for name, content in files.items():
        blob = write(repository / "blobs" / sha256(content), content)
        link = repository / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return HuggingFaceCache(folder)


def ollama_store(folder: Path, layers: dict[str, bytes], name: str = "library/tiny/1b") -> OllamaStore:
    """As Ollama leaves it."""
    entries = []
    for kind, content in layers.items():
        write(folder / "blobs" / f"sha256-{sha256(content)}", content)
        entries.append({"mediaType": LAYER + kind, "digest": f"sha256:{sha256(content)}", "size": len(content)})
    path = folder / "manifests" / "registry.ollama.ai" / name
    write(path, json.dumps({"schemaVersion": 2, "layers": entries}).encode())
    return OllamaStore(folder)


def names(models: object) -> list[str]:
    return [str(model.reference) for model in models]  # type: ignore[attr-defined]


def only(models: object) -> FoundModel:
    (model,) = models  # type: ignore[misc]
    assert isinstance(model, FoundModel)
    return model


def everything_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def stored(files: ModelFiles) -> StoredReference:
    reference = parse_reference(files.name)
    assert isinstance(reference, StoredReference)
    return reference


def test_the_cache_of_the_hub(tmp_path: Path, store: Store) -> None:
    cache = hub_cache(tmp_path / "hf", "org/one", {"q4.gguf": GGUF, "sub/q8.gguf": GGUF + b"8", "mmproj-x.gguf": GGUF})
    hub_cache(tmp_path / "hf", "org/two", FOLDER, main=False)
    found = list(cache.models())
    assert names(found) == ["hf:org/one/q4.gguf", "hf:org/one/sub/q8.gguf", f"hf:org/two@{COMMIT}"]
    before = everything_below(tmp_path / "hf")
    for model in found:
        files = import_model(store, model)
        assert (files.name, files.format) == (str(model.reference), model.format)
        assert store.find(model.reference) == files
    assert sorted(path.name for path in files.path.iterdir()) == sorted(FOLDER)
    assert not list((store.root / "blobs").glob("*"))
    for files in store.list():
        store.remove(stored(files))
    assert everything_below(tmp_path / "hf") == before


def test_the_store_of_ollama(tmp_path: Path, store: Store) -> None:
    layers = {"model": GGUF, "system": b"be brief", "messages": b'[{"role": "user", "content": "hi"}]'}
    neighbour = ollama_store(tmp_path, layers)
    ollama_store(tmp_path, {"model": GGUF}, "someone/other/latest")
    write(tmp_path / "manifests" / "registry.ollama.ai" / "library" / "broken" / "1", b"{")
    found = list(neighbour.models())
    assert names(found) == ["ollama:tiny:1b", "ollama:someone/other:latest"]
    files = import_model(store, found[0])
    assert files.path == tmp_path / "blobs" / f"sha256-{sha256(GGUF)}"
    assert store.preset(stored(files)) == Preset(system="be brief", messages=(Message("user", "hi"),))


def test_the_folder_of_lm_studio(tmp_path: Path) -> None:
    models = tmp_path / "elsewhere"
    write(models / "org" / "repo-GGUF" / "m-Q4_K_M.gguf", GGUF)
    write(models / "org" / "repo-GGUF" / "mmproj-m.gguf", GGUF)
    for name, content in FOLDER.items():
        write(models / "mlx" / "repo" / name, content)
    write(tmp_path / ".lmstudio-home-pointer", str(tmp_path / "own").encode())
    write(tmp_path / "own" / "settings.json", json.dumps({"downloadsFolder": str(models)}).encode())
    neighbour = LMStudio.of_user(tmp_path)
    assert names(neighbour.models()) == ["hf:mlx/repo", "hf:org/repo-GGUF/m-Q4_K_M.gguf"]
    assert LMStudio.of_user(tmp_path / "nobody").exists is False


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_where_the_hub_keeps_its_cache(tmp_path: Path, variable: str) -> None:
    below = {
        "HF_HUB_CACHE": ".",
        "HF_HOME": "hub",
        "XDG_CACHE_HOME": "huggingface/hub",
        "HOME": ".cache/huggingface/hub",
    }
    hub_cache(tmp_path / below[variable], "org/repo", {"m.gguf": GGUF})
    (neighbour, *_) = find_neighbours({variable: str(tmp_path)})
    assert names(neighbour.models()) == ["hf:org/repo/m.gguf"]


def test_where_ollama_keeps_its_models(tmp_path: Path) -> None:
    ollama_store(tmp_path, {"model": GGUF})
    assert names(only_neighbour({"OLLAMA_MODELS": str(tmp_path)}).models()) == ["ollama:tiny:1b"]
    assert find_neighbours({}) == ()


def only_neighbour(environment: dict[str, str]) -> OllamaStore:
    (neighbour,) = find_neighbours(environment)
    assert isinstance(neighbour, OllamaStore)
    return neighbour


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "a" / "My Model (v2).gguf", GGUF)
    for name, content in FOLDER.items():
        write(tmp_path / "Tiny" / name, content)
    assert names(Folder(tmp_path).models()) == ["tiny:latest", "my-model-v2:latest"]
    assert names(Folder(tmp_path / "a" / "My Model (v2).gguf").models()) == ["my-model-v2:latest"]


def test_a_copy_and_its_removal_leave_the_file_alone(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path / "m.gguf", GGUF)
    files = import_model(store, only(Folder(path).models()))
    copied = copy_model(store, stored(files), stored_name("again:1"))
    assert copied.path == path
    assert store.remove(stored(copied)) == 0
    assert store.remove(stored(files)) == 0
    assert path.read_bytes() == GGUF


def stored_name(text: str) -> StoredReference:
    reference = parse_reference(text)
    assert isinstance(reference, StoredReference)
    return reference


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_file_that_is_not_the_same_any_more(tmp_path: Path, store: Store, is_gone: bool) -> None:
    path = write(tmp_path / "m.gguf", GGUF)
    reference = stored(import_model(store, only(Folder(path).models())))
    if is_gone:
        path.unlink()
    else:
        path.write_bytes(GGUF + b"more")
    assert store.find(reference) is None
    with pytest.raises(FileLost, match="is gone since" if is_gone else "was changed since") as caught:
        pull(reference, store)
    assert str(path) in caught.value.message
    assert "madang rm m:latest" in (caught.value.hint or "")


def test_what_is_not_whole(tmp_path: Path, store: Store) -> None:
    shards = {f"model-{number:05}-of-00003.safetensors": SAFETENSORS for number in (1, 3)}
    for name, content in {**FOLDER, **shards}.items():
        if name != "model.safetensors":
            write(tmp_path / "lacking" / name, content)
    with pytest.raises(SourceError, match=r"lacks model-00002-of-00003\.safetensors"):
        import_model(store, only(Folder(tmp_path / "lacking").models()))
    for name, content in FOLDER.items():
        if name != "tokenizer.json":
            write(tmp_path / "mute" / name, content)
    with pytest.raises(SourceError, match="has no tokenizer"):
        import_model(store, only(Folder(tmp_path / "mute").models()))
    with pytest.raises(MalformedFile, match="ends inside"):
        import_model(store, only(Folder(write(tmp_path / "cut.gguf", GGUF[:12])).models()))
    assert store.list() == []


def test_a_shard_that_is_cut_off(tmp_path: Path, store: Store) -> None:
    header = json.dumps({"t": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(16)
    index = {"weight_map": {"t": "model-00001-of-00002.safetensors", "u": "model-00002-of-00002.safetensors"}}
    files = {
        **{name: FOLDER[name] for name in ("config.json", "tokenizer.json")},
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": whole,
        "model-00002-of-00002.safetensors": whole.replace(b'"t"', b'"u"')[:-5],
    }
    for name, content in files.items():
        write(tmp_path / "m" / name, content)
    with pytest.raises(MalformedFile, match=r"model-00002-of-00002\.safetensors"):
        import_model(store, only(Folder(tmp_path / "m").models()))


def test_another_model_of_that_name(tmp_path: Path, store: Store) -> None:
    found = only(Folder(write(tmp_path / "m.gguf", GGUF)).models())
    assert import_model(store, found) == import_model(store, found)
    other = only(Folder(write(tmp_path / "b" / "m.gguf", GGUF)).models())
    with pytest.raises(InvalidRequest, match="another model named m:latest"):
        import_model(store, other)
    assert import_model(store, other, stored_name("m:other")).name == "m:other"


def test_a_pull_uses_what_another_program_has(tmp_path: Path, store: Store, hub: Hub) -> None:
    hub.large = {"m.gguf": GGUF}
    cache = hub_cache(tmp_path / "hf", "some/fork", {"other.gguf": GGUF})
    notes, progress = list[str](), Recorder()
    sources = Sources(hub=HuggingFaceSource(endpoint=hub.url, token=False), neighbours=(cache,))
    files = pull(parse_reference("hf:org/repo"), store, progress, sources, notes.append)
    assert files.path.resolve() == tmp_path / "hf" / "models--some--fork" / "blobs" / sha256(GGUF)
    assert hub.ranges() == []
    assert sum(progress.steps) == len(GGUF)
    assert len(notes) == 1 and "not downloaded" in notes[0] and "Hugging Face cache" in notes[0]
    assert store.remove(stored(files)) == 0
    assert files.path.read_bytes() == GGUF


def test_names_and_sizes_prove_nothing(tmp_path: Path, store: Store, hub: Hub) -> None:
    hub.large = {"m.gguf": GGUF}
    fake = GGUF[:-1] + b"x"
    write(tmp_path / "models" / "org" / "repo" / "m.gguf", fake)
    sources = Sources(hub=HuggingFaceSource(endpoint=hub.url, token=False), neighbours=(LMStudio(tmp_path / "models"),))
    assert pull(parse_reference("hf:org/repo"), store, None, sources).path.read_bytes() == GGUF
    write(tmp_path / "models" / "org" / "repo" / "m.gguf", GGUF)
    store.remove(stored_name("hf:org/repo"))
    files = pull(parse_reference("hf:org/repo"), store, None, sources)
    assert files.path == tmp_path / "models" / "org" / "repo" / "m.gguf"


def test_what_the_store_has_is_not_fetched_again(store: Store, hub: Hub) -> None:
    with Registry({"model": GGUF}).running() as registry:
        sources = Sources(hub=HuggingFaceSource(endpoint=hub.url, token=False), registry=OllamaSource(registry.url))
        first = pull(parse_reference("ollama:tiny:1b"), store, None, sources)
    hub.large = {"m.gguf": GGUF}
    assert pull(parse_reference("hf:org/repo"), store, None, sources).path == first.path
    assert hub.ranges() == []
    assert store.remove(stored_name("ollama:tiny:1b")) == 0
    assert first.path.read_bytes() == GGUF


def test_offline(tmp_path: Path, store: Store, hub: Hub) -> None:
    client = Client(Connections(retry_s=0.0))
    cache = hub_cache(tmp_path / "hf", "org/repo", {"m.gguf": GGUF})
    sources = Sources(hub=HuggingFaceSource(endpoint=hub.url, client=client), neighbours=(cache,), is_offline=True)
    assert pull(parse_reference("hf:org/repo/m.gguf"), store, None, sources).path.read_bytes() == GGUF
    with pytest.raises(NetworkUnavailable, match="fetch nothing"):
        pull(parse_reference("hf:org/repo/other.gguf"), store, None, sources)
    assert hub.requests == []
