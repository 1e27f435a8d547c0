"""The mlx engine on tiny random models; on Linux with MLX's CPU build. What all engines promise is in conformance/."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from madang.core import Engine, LogitSource, Regex, Request, SamplingParams, collect
from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.core.settings import load_settings
from madang.models import FileReference, Store
from madang.runtime import open_model
from madang.runtime.choosing import choose_for
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint, write_folder

mx = pytest.importorskip("mlx.core", reason="the mlx engine needs mlx")
pytest.importorskip("mlx_lm", reason="the mlx engine needs mlx-lm")

GREEDY = SamplingParams(temperature=0)
OpenFolder = Callable[..., Engine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mlx")
    model = replace(MODEL, n_embd=64)  # MLX quantizes groups of 64
    write_folder(write_checkpoint(model, root / "tiny.gguf"), root / "tiny")
    return root / "tiny"


@pytest.fixture(scope="module")
def opened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFolder]:
    """Opens a folder with settings, and closes what it opened in the end."""
    home = str(tmp_path_factory.mktemp("home"))
    with ExitStack() as stack:

        def open_with(path: Path = folder, **given: str) -> Engine:
            return stack.enter_context(closing(open_model(f"file:{path}", load_settings(given, {"MADANG_HOME": home}))))

        yield open_with


def ask(text: str = "one two", **options: object) -> Request:
    return Request(prompt=text, **{"sampling": GREEDY, "max_tokens": 24, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("request_", [ask(), ask("가나다"), ask(constraint=Regex("[a-z]{3}(yes|no)"))])
def test_the_answer_is_the_native_engine_s(opened: OpenFolder, request_: Request) -> None:
    ours, theirs = opened(engine="native"), opened(engine="mlx")
    assert collect(theirs.generate(request_)).text == collect(ours.generate(request_)).text


def test_any_thread_may_take_the_next_step(opened: OpenFolder) -> None:
    engine = opened(engine="mlx")
    whole = collect(engine.generate(ask())).text
    stream = engine.generate(ask())
    pieces = []
    for _ in range(4):
        with ThreadPoolExecutor(1) as thread:  # a new one each time
            pieces.append(thread.submit(next, stream).result())
    text = "".join(piece.text for piece in pieces)  # type: ignore[union-attr]
    assert text
    assert text + collect(stream).text == whole


def test_weights_that_mlx_quantized_are_left_to_it(opened: OpenFolder, folder: Path, tmp_path: Path) -> None:
    from mlx_lm.utils import load_model, quantize_model, save_model

    model, config = load_model(folder)
    model, config = quantize_model(model, config, 64, 4)
    path = tmp_path / "quantized"
    save_model(path, model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((folder / name).read_bytes())
    (path / "config.json").write_text(json.dumps(config))
    files = Store(tmp_path).find(FileReference(path))
    assert files is not None
    choice = choose_for(files, None).choice
    assert (choice.entry.name, "does not run" in choice.reason) == ("mlx", True)
    shrunk, whole = opened(path), opened(engine="mlx")
    assert shrunk.info.engine == "mlx"
    assert isinstance(shrunk, LogitSource)
    assert isinstance(whole, LogitSource)
    some, exact = (next(iter(engine.logits([70, 71, 72]))) for engine in (shrunk, whole))
    assert some.shape == exact.shape
    assert 0 < abs(some - exact).max() < 3


def test_a_model_that_brings_a_program_is_refused_and_it_does_not_run(
    opened: OpenFolder, folder: Path, tmp_path: Path
) -> None:
    path, witness = tmp_path / "own", tmp_path / "ran"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    (path / "own.py").write_text(f"open({str(witness)!r}, 'w')\n")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    with pytest.raises(UnsupportedModel, match="its own program"):
        opened(path, engine="mlx")
    assert not witness.exists()


def test_a_family_that_mlx_does_not_know_is_refused(opened: OpenFolder, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "unknown"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    with pytest.raises(UnsupportedModel, match="The mlx engine does not run"):
        opened(path, engine="mlx")


def test_settings_that_only_other_engines_use_are_refused(opened: OpenFolder) -> None:
    with pytest.raises(InvalidRequest, match="has no use for --device"):
        opened(engine="mlx", device="cpu")
