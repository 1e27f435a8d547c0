"""The source against a registry on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from madang.core import Message, SamplingParams
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
from madang.models import (
    ModelFiles,
    OllamaReference,
    Preset,
    Progress,
    Sources,
    Store,
    parse_reference,
    pull,
    sources_of,
)
from madang.models.sources.ollama import OllamaSource
from tests.models.registry import Registry
from tests.models.standins import Interrupting, Recorder, sha256

WEIGHTS = b"GGUF" + bytes(range(256)) * 4000
LAYERS = {
    "model": WEIGHTS,
    "template": b"{{ .Prompt }}",
    "system": "너는 조수다.".encode(),
    "params": b'{"temperature": 0.5, "stop": ["<|im_end|>"], "num_ctx": 2048, "from_the_future": 1}',
    "messages": b'[{"role": "user", "content": "hi"}]',
    "license": b"Apache License",
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(dict(LAYERS)).running() as registry:
        yield registry


def fetch(
    registry: Registry, store: Store, text: str = "ollama:tiny:1b", progress: Progress | None = None
) -> ModelFiles:
    return pull(parse_reference(text), store, progress, Sources(registry=OllamaSource(registry.url)))


@pytest.mark.parametrize(
    "address", ["registry.example.org", "file:///etc", "https://name:secret@host", "https://host?x", "ftp://host", ""]
)
def test_an_address_of_a_registry_that_is_none(address: str) -> None:
    with pytest.raises(InvalidRequest, match="address of a registry"):
        OllamaSource(address)


def test_the_settings_name_another_registry(registry: Registry, store: Store) -> None:
    settings = load_settings({}, {"MADANG_HOME": str(store.root), "MADANG_OLLAMA_REGISTRY": registry.url + "/"})
    files = pull(parse_reference("ollama:tiny:1b"), store, sources=sources_of(settings))
    assert files.path.read_bytes() == WEIGHTS
    assert load_settings({}, {"MADANG_HOME": str(store.root)}).ollama_registry is None


@pytest.mark.parametrize(
    ("text", "written", "key"),
    [
        ("ollama:tiny", "ollama:tiny:latest", ("ollama", "library", "tiny", "latest")),
        ("ollama:library/tiny:1B", "ollama:tiny:1B", ("ollama", "library", "tiny", "1B")),
        ("ollama:someone/tiny:1b", "ollama:someone/tiny:1b", ("ollama", "someone", "tiny", "1b")),
    ],
)
def test_names(text: str, written: str, key: tuple[str, ...]) -> None:
    reference = parse_reference(text)
    assert (str(reference), parse_reference(written)) == (written, reference)
    assert isinstance(reference, OllamaReference)
    assert reference.key == key


@pytest.mark.parametrize("text", ["", "a/b/c", "../x", "a:b:c", "evil.example/a/b:1", "a/..", "con:1", "a@b"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(f"ollama:{text}")


def test_a_model_with_all_that_comes_with_it(registry: Registry, store: Store) -> None:
    progress = Recorder()
    files = fetch(registry, store, progress=progress)
    assert files.path.read_bytes() == WEIGHTS
    assert (files.name, files.source) == ("ollama:tiny:1b", f"ollama:tiny:1b@sha256:{sha256(WEIGHTS)}")
    assert files.sampling_defaults == SamplingParams(temperature=0.5)
    assert (progress.totals, sum(progress.steps), progress.n_finished) == ([len(WEIGHTS)], len(WEIGHTS), 1)
    assert store.show(OllamaReference("tiny", "1b")).preset == Preset(
        system="너는 조수다.",
        messages=(Message("user", "hi"),),
        stop=("<|im_end|>",),
        context_tokens=2048,
        template="{{ .Prompt }}",
        license="Apache License",
    )


def test_weights_alone(registry: Registry, store: Store) -> None:
    registry.layers = {"model": WEIGHTS}
    assert fetch(registry, store, "ollama:someone/tiny").name == "ollama:someone/tiny:latest"
    assert store.show(OllamaReference("tiny", namespace="someone")).preset is None


def test_a_broken_line_is_taken_up_where_it_broke(registry: Registry, store: Store) -> None:
    registry.cut_after = [300_000, 100_000]
    progress = Recorder()
    assert fetch(registry, store, progress=progress).path.read_bytes() == WEIGHTS
    ranges = [range_ for path, range_ in registry.requests if sha256(WEIGHTS) in path]
    assert ranges == [None, "bytes=300000-", "bytes=400000-"]
    assert sum(progress.steps) == len(WEIGHTS)


def test_an_interrupted_pull_goes_on(registry: Registry, store: Store) -> None:
    registry.cut_after = [5000]
    with pytest.raises(KeyboardInterrupt):
        fetch(registry, store, progress=Interrupting())
    assert fetch(registry, store).path.read_bytes() == WEIGHTS
    assert "bytes=5000-" in [range_ for _, range_ in registry.requests]


@pytest.mark.parametrize("kind", ["model", "template"])
def test_content_that_is_not_what_the_digest_says(registry: Registry, store: Store, kind: str) -> None:
    content = LAYERS[kind]
    registry.served = {sha256(content): b"x" * len(content)}
    with pytest.raises(ChecksumMismatch):
        fetch(registry, store)
    assert store.list() == []
    registry.served = {}
    assert fetch(registry, store).path.read_bytes() == WEIGHTS


def test_more_content_than_promised(registry: Registry, store: Store) -> None:
    registry.served = {sha256(WEIGHTS): WEIGHTS + b"more"}
    assert fetch(registry, store).path.read_bytes() == WEIGHTS


def test_what_the_registry_does_not_have(registry: Registry, store: Store) -> None:
    with pytest.raises(ModelNotFound):
        fetch(registry, store, "ollama:tiny:9b")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ([], "like an Ollama registry"),
        ({"layers": "no"}, "without layers"),
        ({"layers": []}, "0 files of weights"),
        ({"layers": [{"mediaType": "m", "digest": "sha256:../../x", "size": 1}]}, "without a sha256 digest"),
        ({"layers": [{"mediaType": "m", "digest": f"sha256:{'a' * 64}", "size": -1}]}, "without a sha256 digest"),
        ({"layers": [{"mediaType": "m"}]}, "like an Ollama registry"),
    ],
)
def test_odd_manifests(registry: Registry, store: Store, manifest: object, words: str) -> None:
    registry.manifest = manifest
    with pytest.raises(SourceError, match=words):
        fetch(registry, store)


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [("adapter", b"GGUF", "kind 'adapter'"), ("params", b"[1", "damaged"), ("messages", b'[{"role": "x"}]', "damaged")],
)
def test_layers_that_cannot_be_used(registry: Registry, store: Store, kind: str, content: bytes, words: str) -> None:
    registry.layers[kind] = content
    with pytest.raises(SourceError, match=words):
        fetch(registry, store)


def test_a_redirect_to_something_else_than_the_web(registry: Registry, store: Store) -> None:
    registry.moved_to = "ftp://127.0.0.1/x"
    with pytest.raises(SourceError, match="away from http"):
        fetch(registry, store)


def test_a_full_disk_is_seen_before_anything_is_written(registry: Registry, store: Store) -> None:
    full = Store(store.root.parent, free_bytes=lambda folder: 100)
    with pytest.raises(NotEnoughDisk):
        fetch(registry, full)


def test_no_registry(store: Store) -> None:
    with pytest.raises(NetworkUnavailable):
        pull(parse_reference("ollama:tiny"), store, None, Sources(registry=OllamaSource("http://127.0.0.1:1")))
