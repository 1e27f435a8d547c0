"""A prefix that was saved serves as if it had just been computed, and only the model that it is of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from madang.core import Message, Request
from madang.core.errors import ContextLengthExceeded, InvalidPrefix, InvalidRequest, NotEnoughMemory
from madang.native import load
from tests.native.conftest import CONTEXT_TOKENS, OpenEngine, as_files, as_plan
from tests.native.test_engine import ask, same
from tests.parity.checkpoints import TinyModel, write_checkpoint

TEXT = "a-system-prompt-that-is-long-enough-to-take-three-pages"


@pytest.mark.parametrize("n_letters", [1, 15, 16, 40, len(TEXT)])
def test_what_was_saved_need_not_be_computed(open_engine: OpenEngine, tmp_path: Path, n_letters: int) -> None:
    path = tmp_path / "prefix"
    n_saved = open_engine(isa="portable").save_prefix(Request(prompt=TEXT[:n_letters]), path)
    assert n_saved == n_letters + 1
    engine = open_engine(isa="portable")
    assert engine.load_prefix(path) == n_saved
    answer = ask(engine, TEXT + "!")
    assert answer.done.usage.cached_tokens == n_saved
    assert same(answer, ask(open_engine(isa="portable"), TEXT + "!"))


def test_a_conversation_can_be_saved_while_others_talk(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine()
    events = engine.generate(Request(prompt="other", max_tokens=50))
    next(events)
    request = Request(messages=(Message("user", "hello"),), max_tokens=0)
    assert engine.save_prefix(request, tmp_path / "prefix") == engine.count_tokens(request)
    assert engine.save_prefix([1, 2, 3], tmp_path / "tokens") == 3
    assert list(events)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prefix", "tokens"]


def test_loading_twice_or_over_what_is_there_adds_nothing(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine()
    engine.save_prefix(Request(prompt=TEXT), tmp_path / "prefix")
    n_pages = engine._worker.ask(lambda scheduler: scheduler.cache.pool.n_used)
    for _ in range(2):
        engine.load_prefix(tmp_path / "prefix")
    assert engine._worker.ask(lambda scheduler: scheduler.cache.pool.n_used) == n_pages


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\0",
        lambda data: flipped(data, 0),
        lambda data: flipped(data, 8),
        lambda data: flipped(data, 12),
        lambda data: flipped(data, 15),
        lambda data: flipped(data, 20),
        lambda data: flipped(data, len(data) // 2),
        lambda data: flipped(data, len(data) - 1),
        lambda data: b"GGUF" + data,
    ],
)
def test_a_damaged_file_is_refused(open_engine: OpenEngine, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    engine = open_engine()
    engine.save_prefix(Request(prompt=TEXT), tmp_path / "prefix")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(damage((tmp_path / "prefix").read_bytes()))
    other = open_engine()
    with pytest.raises(InvalidPrefix):
        other.load_prefix(damaged)
    assert ask(other, TEXT).done.usage.cached_tokens == 0


def test_the_prefix_of_another_model_is_refused(open_engine: OpenEngine, tmp_path: Path) -> None:
    open_engine().save_prefix(Request(prompt=TEXT), tmp_path / "prefix")
    # "tiny" and "twin" have the same shape and other weights.
    for name, head_dim in (("twin!", 16), ("other", 32)):
        model = TinyModel(name, n_heads=4, n_kv_heads=2, head_dim=head_dim, n_embd=48, n_ff=64)
        path = write_checkpoint(model, tmp_path / f"{name}.gguf").path
        with closing(load(as_files(path), as_plan())) as engine, pytest.raises(InvalidPrefix, match="another model"):
            engine.load_prefix(tmp_path / "prefix")


def test_the_prefix_of_another_kind_of_cache_is_refused(open_engine: OpenEngine, tmp_path: Path) -> None:
    for own, other in (("f16", "int8"), ("int8", "f16")):
        n_saved = open_engine(kv_type=own).save_prefix(Request(prompt=TEXT), tmp_path / own)
        with pytest.raises(InvalidPrefix, match="another kind of cache"):
            open_engine(kv_type=other).load_prefix(tmp_path / own)
        engine = open_engine(kv_type=own)
        assert engine.load_prefix(tmp_path / own) == n_saved
        answer = ask(engine, TEXT + "!")
        assert answer.done.usage.cached_tokens == n_saved
        assert same(answer, ask(open_engine(kv_type=own), TEXT + "!"))


def test_what_does_not_fit_is_refused(open_engine: OpenEngine, tmp_path: Path) -> None:
    engine = open_engine()
    with pytest.raises(ContextLengthExceeded):
        engine.save_prefix(Request(prompt="x" * CONTEXT_TOKENS), tmp_path / "prefix")
    with pytest.raises(InvalidRequest):
        engine.save_prefix([], tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()
    engine.save_prefix(Request(prompt=TEXT), tmp_path / "prefix")
    with pytest.raises(NotEnoughMemory):
        open_engine(n_pages=3).load_prefix(tmp_path / "prefix")
    with pytest.raises(InvalidPrefix):
        engine.load_prefix(tmp_path / "nothing")
