"""What makes no sense ends in one sentence of its own, and the next request is answered as if nothing had been.

More of it where it belongs: files in test_loading.py, test_malformed.py, test_prefix_file.py and test_adapters.py,
forms in test_constraints.py, plans in tests/hardware/test_plan.py, a closed engine in test_engine.py.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from madang.core import Completion, JsonSchema, Regex, Request, SamplingParams, collect
from madang.core.errors import (
    EngineError,
    InvalidPrefix,
    InvalidRequest,
    MadangError,
    MalformedFile,
    NotEnoughMemory,
    UnknownOption,
)
from madang.core.request import AdapterChoice
from madang.core.settings import load_settings
from madang.native import NativeEngine, load
from madang.runtime import open_model
from tests.formats.adapters.files import random_adapter, write_peft
from tests.native.conftest import OpenEngine, as_files, as_plan
from tests.native.tiny import MODEL
from tests.parity.checkpoints import Checkpoint, write_checkpoint

EXACT = SamplingParams(temperature=0, logprobs=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("bad") / "tiny.gguf")


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[NativeEngine]:
    with closing(load(as_files(checkpoint.path), as_plan(n_pages=12))) as engine:
        yield engine


def ask(engine: NativeEngine, prompt: str = "good", **request: Any) -> Completion:
    return collect(engine.generate(Request(**{"prompt": prompt, "max_tokens": 6, "sampling": EXACT, **request})))


@pytest.fixture
def refused(engine: NativeEngine) -> Iterator[Callable[..., MadangError]]:
    """Calls what is wrong; afterwards, the engine says what it said before, and holds nothing."""
    before = ask(engine)

    def refused(action: Callable[[], object], kind: type[MadangError], words: str | None = None) -> MadangError:
        with pytest.raises(kind, match=words) as caught:
            action()
        assert type(caught.value) is kind
        assert caught.value.message.endswith(".")
        assert "\n" not in caught.value.message
        return caught.value

    yield refused
    assert engine.cache_usage().held_pages == 0
    after = ask(engine)
    assert (after.text, after.logprobs) == (before.text, before.logprobs)


Refused = Callable[..., MadangError]


@pytest.mark.parametrize("value", [-1, 1.5, math.nan, "3", True])
@pytest.mark.parametrize("name", ["max_tokens", "context_tokens"])
def test_limits(engine: NativeEngine, refused: Refused, name: str, value: Any) -> None:
    error = refused(partial(ask, engine, **{name: value}), InvalidRequest, f"{name} is .* but must be a whole number")
    assert error.to_dict()["param"] == name


@pytest.mark.parametrize(
    "options",
    [
        *({"logit_bias": bias} for bias in ({1: math.nan}, {1: math.inf}, {1: 1e39}, {1: "x"}, {"a": 1.0}, {1.5: 1.0})),
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {2**40: 1.0}},
        {"temperature": "1"},
        {"temperature": math.nan},
        {"top_k": 1.5},
        {"seed": 1.5},
        {"seed": 2**64},
        {"logprobs": True},
    ],
    ids=str,
)
def test_sampling(engine: NativeEngine, refused: Refused, options: dict[str, Any]) -> None:
    error = refused(lambda: ask(engine, sampling=SamplingParams(**options)), InvalidRequest)
    assert error.to_dict()["param"] == next(iter(options))


def test_a_bias_that_excludes_everything(engine: NativeEngine, refused: Refused) -> None:
    none_at_all = SamplingParams(logit_bias=dict.fromkeys(range(MODEL.vocab_size), -math.inf))
    refused(lambda: ask(engine, sampling=none_at_all), EngineError, "no token of this model")


@pytest.mark.parametrize(
    "constraint",
    [JsonSchema({"type": "strin"}), JsonSchema({"const": "\ud800"}), Regex("("), Regex("\ud800"), Regex("a" * 10**6)],
    ids=lambda constraint: str(constraint)[:40],
)
def test_constraints(engine: NativeEngine, refused: Refused, constraint: Any) -> None:
    error = refused(lambda: ask(engine, constraint=constraint), InvalidRequest, "cannot hold an answer to its form")
    assert error.to_dict()["param"] == "constraint"


@pytest.mark.parametrize("token", [-1, MODEL.vocab_size, 2**40])
def test_tokens_of_another_vocabulary(engine: NativeEngine, refused: Refused, tmp_path: Path, token: int) -> None:
    refused(lambda: list(engine.logits([1, token])), InvalidRequest, f"no token {token};")
    refused(lambda: engine.save_prefix([1, token], tmp_path / "prefix"), InvalidRequest, f"no token {token};")
    assert not list(tmp_path.iterdir())


def test_a_prefix_that_is_not_there(engine: NativeEngine, refused: Refused, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        refused(lambda path=path: engine.load_prefix(path), InvalidPrefix, "no such file")


@pytest.mark.parametrize("n", [(-1, 1), (1, -1)])
def test_a_benchmark_of_nothing(engine: NativeEngine, refused: Refused, n: tuple[int, int]) -> None:
    refused(lambda: engine.benchmark(*n), InvalidRequest)


def test_a_benchmark_that_fits_into_no_memory_is_refused_at_once(engine: NativeEngine, refused: Refused) -> None:
    refused(lambda: engine.benchmark(10**13, 1), NotEnoughMemory, "benchmark")


# ---- memory. Of twelve pages, the context of a request may ask for all, and for no more.


def test_a_context_beyond_the_cache(engine: NativeEngine, refused: Refused) -> None:
    error = refused(lambda: ask(engine, context_tokens=13 * 16), NotEnoughMemory, "A context of 208 tokens needs")
    assert error.to_dict()["available_bytes"] == 12 * engine.cache_usage().page_bytes
    assert ask(engine, context_tokens=12 * 16).text


@pytest.mark.parametrize(("letters", "answer"), [(60, 1), (20, 40)])
def test_a_cache_too_small_for_one_request(open_engine: OpenEngine, letters: int, answer: int) -> None:
    small = open_engine(n_pages=2)
    before = ask(small)
    with pytest.raises(NotEnoughMemory, match=r"The cache for \d+ tokens needs"):
        ask(small, "x" * letters, max_tokens=answer)
    assert ask(small).logprobs == before.logprobs


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"context": 2**60}, InvalidRequest),
        ({"kv_memory": 1}, InvalidRequest),
        ({"kv_memory": 2**70}, NotEnoughMemory),
    ],
)
def test_settings_that_no_machine_can_honour(
    tiny_gguf: Path, settings: dict[str, int], kind: type[MadangError]
) -> None:
    with pytest.raises(kind):
        open_model(f"file:{tiny_gguf}", load_settings({"engine": "native", **settings}, {}))


# ---- adapters


def test_adapters_that_nobody_loaded(engine: NativeEngine, refused: Refused) -> None:
    error = refused(lambda: ask(engine, adapter=AdapterChoice("poet")), UnknownOption, "no adapter")
    assert error.hint == "There are none."


def test_adapters_that_are_damaged(
    engine: NativeEngine, checkpoint: Checkpoint, refused: Refused, tmp_path: Path
) -> None:
    good = write_peft(random_adapter(checkpoint.weights, 1), tmp_path / "good")

    def damaged(name: str, damage: Callable[[Path], object]) -> None:
        folder = shutil.copytree(good, tmp_path / name)
        damage(folder)
        refused(lambda: engine.load_adapter(folder), MalformedFile)

    def rewrite(folder: Path, **changes: Any) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    weights = "adapter_model.safetensors"
    damaged("cut", lambda folder: os.truncate(folder / weights, (folder / weights).stat().st_size - 4))
    damaged("stub", lambda folder: os.truncate(folder / weights, 5))
    damaged("nan", lambda folder: (folder / weights).write_bytes((folder / weights).read_bytes()[:-4] + b"\xff" * 4))
    damaged("list", lambda folder: (folder / "adapter_config.json").write_text("[]"))
    damaged("rank", partial(rewrite, r="x"))
    damaged("alpha", partial(rewrite, lora_alpha=math.inf))
    assert engine.adapter_bytes == {}
