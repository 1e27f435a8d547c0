"""Adapters in a running engine: as if they were merged into the weights, each request with its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.core import AdapterChoice, AdapterHost, Completion, Request, SamplingParams, collect
from madang.core.errors import AdapterMismatch, EngineError, InvalidRequest, UnknownOption
from madang.native import NativeEngine, load
from tests.formats.adapters.files import random_adapter, write_gguf, write_peft
from tests.native.conftest import as_files, as_plan
from tests.parity.checkpoints import Checkpoint, TinyModel, write_checkpoint

MODEL = TinyModel("adapted", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=48, n_ff=64)
PROMPT = "once-upon-a-time-there-was-a-river"
GREEDY = SamplingParams(temperature=0, logprobs=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(MODEL, tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.fixture
def engine(checkpoint: Checkpoint) -> Iterator[NativeEngine]:
    with closing(load(as_files(checkpoint.path), as_plan())) as engine:
        yield engine


def ask(engine: NativeEngine, adapter: str | None = None, scale: float = 1.0, n: int = 12) -> Completion:
    choice = None if adapter is None else AdapterChoice(adapter, scale)
    return collect(engine.generate(Request(prompt=PROMPT, max_tokens=n, sampling=GREEDY, adapter=choice)))


def assert_same(one: Completion, other: Completion) -> None:
    """The same tokens, and probabilities that differ by rounding only."""
    assert [token.token_id for token in one.logprobs] == [token.token_id for token in other.logprobs]
    np.testing.assert_allclose(
        [token.logprob for token in one.logprobs], [token.logprob for token in other.logprobs], atol=2e-3
    )


@pytest.mark.parametrize("kind", ["peft", "gguf"])
@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0])
def test_an_adapter_answers_like_merged_weights(
    checkpoint: Checkpoint, engine: NativeEngine, tmp_path: Path, kind: str, scale: float
) -> None:
    adapter = random_adapter(checkpoint.weights, 1)
    is_peft = kind == "peft"
    path = write_peft(adapter, tmp_path / "a") if is_peft else write_gguf(adapter, tmp_path / "a.gguf", MODEL)
    assert engine.load_adapter(path) == "a"
    merged = write_checkpoint(MODEL, tmp_path / "merged.gguf", weights=adapter.merged(checkpoint.weights, scale)).path
    with closing(load(as_files(merged), as_plan())) as reference:
        answer = ask(engine, "a", scale)
        assert_same(answer, ask(reference))
        assert answer.text != ask(engine).text


def test_several_side_by_side_change_each_other_in_no_bit(
    checkpoint: Checkpoint, engine: NativeEngine, tmp_path: Path
) -> None:
    assert isinstance(engine, AdapterHost)
    plain = ask(engine)
    for seed, modules in enumerate((("q_proj", "v_proj"), ("up_proj",), ("o_proj", "down_proj", "gate_proj"))):
        adapter = random_adapter(checkpoint.weights, seed, modules, rank=2 + seed)
        engine.load_adapter(write_peft(adapter, tmp_path / f"a{seed}"), f"number {seed}")
    assert list(engine.adapter_bytes) == ["number 0", "number 1", "number 2"]
    choices: list[AdapterChoice | None] = [None, *(AdapterChoice(f"number {n}") for n in range(3))]
    choices += [AdapterChoice("number 0", 0.25), AdapterChoice("number 0", 0.0)]
    alone = [ask(engine, choice.name, choice.scale) if choice else ask(engine) for choice in choices]
    streams = [
        engine.generate(Request(prompt=PROMPT, max_tokens=12, sampling=GREEDY, adapter=choice))
        for choice in choices * 2
    ]
    heads = [next(stream) for stream in streams]
    together = [collect([head, *stream]) for head, stream in zip(heads, streams, strict=True)]
    for one, other in zip(together, alone * 2, strict=True):
        assert (one.text, one.logprobs) == (other.text, other.logprobs)
    assert len({completion.text for completion in alone}) >= 4
    assert ask(engine).logprobs == plain.logprobs


def test_unloading(checkpoint: Checkpoint, engine: NativeEngine, tmp_path: Path) -> None:
    first = write_peft(random_adapter(checkpoint.weights, 1), tmp_path / "first")
    second = write_peft(random_adapter(checkpoint.weights, 2), tmp_path / "second")
    engine.load_adapter(first, "mine")
    before = ask(engine, "mine")
    running = engine.generate(
        Request(prompt=PROMPT, max_tokens=100, sampling=SamplingParams(temperature=0), adapter=AdapterChoice("mine"))
    )
    next(running)
    try:
        engine.unload_adapter("mine")
    except EngineError as error:
        assert "in use" in error.message
        collect(running)
        engine.unload_adapter("mine")
    with pytest.raises(UnknownOption, match="mine"):
        ask(engine, "mine")
    engine.load_adapter(second, "mine")  # nothing of the first is left in the cache of prefixes
    assert ask(engine, "mine").logprobs != before.logprobs
    assert list(engine.adapter_bytes) == ["mine"]


def test_bad_requests_and_files_change_nothing(checkpoint: Checkpoint, engine: NativeEngine, tmp_path: Path) -> None:
    path = write_peft(random_adapter(checkpoint.weights, 1), tmp_path / "mine")
    engine.load_adapter(path)
    plain, adapted = ask(engine), ask(engine, "mine")
    with pytest.raises(InvalidRequest, match="loaded already"):
        engine.load_adapter(path)
    for scale in (float("nan"), float("inf"), 1000.0):
        with pytest.raises(InvalidRequest, match="scale"):
            ask(engine, "mine", scale)
    for act in (lambda: ask(engine, "mime"), lambda: engine.unload_adapter("mime")):
        with pytest.raises(UnknownOption) as caught:
            act()
        assert caught.value.hint == "Did you mean mine?"
    other: Any = TinyModel("other", n_heads=4, n_kv_heads=2, head_dim=16, n_embd=64, n_ff=64)
    foreign = random_adapter(write_checkpoint(other, tmp_path / "other.gguf").weights, 1)
    with pytest.raises(AdapterMismatch):
        engine.load_adapter(write_peft(foreign, tmp_path / "foreign"))
    assert list(engine.adapter_bytes) == ["mine"]
    assert (ask(engine).logprobs, ask(engine, "mine").logprobs) == (plain.logprobs, adapted.logprobs)
