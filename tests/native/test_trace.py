"""What an engine shows of its inside is what ``transformers`` has there, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest

from madang.core import Request, SamplingParams, Trace, Tracer, collect
from madang.core.errors import ContextLengthExceeded, EngineError, InvalidRequest, NotEnoughMemory
from madang.native import NativeEngine
from tests.native.conftest import OpenEngine
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint
from tests.parity.references import reference_inside, reference_model

TOKENS = np.random.default_rng(3).integers(3, 259, 50).tolist()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny model in float32, with eager attention."""
    checkpoint = write_checkpoint(MODEL, tmp_path_factory.mktemp("reference") / "tiny.gguf")
    return reference_model(MODEL, checkpoint.weights)


@pytest.mark.parametrize("n", [1, 2, 16, 17, 50])
def test_hidden_states_attention_and_lens(open_engine: OpenEngine, reference: Any, n: int) -> None:
    trace = open_engine().trace(TOKENS[:n], n_top=4)
    hidden, attention, logits = reference_inside(reference, TOKENS[:n])
    assert trace.tokens == tuple(TOKENS[:n])
    assert trace.hidden.shape == hidden.shape
    assert trace.attention.shape == attention.shape
    assert np.abs(trace.hidden - hidden).max() < 2e-3 * hidden.std()
    assert np.abs(trace.attention - attention).max() < 1e-3
    assert trace.lens_tokens.shape == trace.lens_logits.shape == (*hidden.shape[:2], 4)
    assert np.abs(trace.lens_logits - -np.sort(-logits)[..., :4]).max() < 1e-2 * logits.std()
    taken = np.take_along_axis(logits, trace.lens_tokens, -1)
    assert np.abs(trace.lens_logits - taken).max() < 1e-2 * logits.std()


def test_the_last_layer_of_the_lens_is_the_model(open_engine: OpenEngine) -> None:
    engine = open_engine()
    trace = engine.trace(Request(prompt="a text of several words"), n_top=MODEL.vocab_size)
    logits = np.concatenate(list(engine.logits(trace.tokens)))
    assert np.array_equal(trace.lens_logits[-1], np.take_along_axis(logits, trace.lens_tokens[-1], -1))
    assert np.array_equal(np.sort(trace.lens_tokens[0, 0]), np.arange(MODEL.vocab_size))


def same(a: Trace, b: Trace) -> bool:
    names = ("hidden", "attention", "lens_tokens", "lens_logits")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def answer(engine: NativeEngine) -> str:
    request = Request(prompt="go on", sampling=SamplingParams(temperature=0), max_tokens=40)
    return collect(engine.generate(request)).text


def test_nothing_else_changes_it_and_it_changes_nothing_else(open_engine: OpenEngine) -> None:
    engine = open_engine()
    alone, said = engine.trace(TOKENS), answer(engine)
    list(engine.logits(TOKENS))  # in the prefix tree now
    answers: list[str] = []
    threads = [Thread(target=lambda: answers.append(answer(engine))) for _ in range(3)]
    for thread in threads:
        thread.start()
    traces = [engine.trace(TOKENS) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert all(same(alone, trace) for trace in traces)
    assert answers == [said] * 3


def test_its_pages_come_back(open_engine: OpenEngine) -> None:
    engine = open_engine(n_pages=4, context_tokens=60)
    for _ in range(10):
        engine.trace(TOKENS[:60], n_top=0)
    assert answer(engine)


@pytest.mark.parametrize(
    ("ask", "error", "sentence"),
    [
        (lambda engine: engine.trace([]), InvalidRequest, "empty"),
        (lambda engine: engine.trace([0, 259]), InvalidRequest, "from 0 to 258"),
        (lambda engine: engine.trace([-1]), InvalidRequest, "from 0 to 258"),
        (lambda engine: engine.trace([1], n_top=260), InvalidRequest, "n_top is 260"),
        (lambda engine: engine.trace([1], n_top=-1), InvalidRequest, "n_top is -1"),
        (lambda engine: engine.trace([1] * 161), ContextLengthExceeded, "161"),
    ],
)
def test_what_cannot_be_traced(
    open_engine: OpenEngine, ask: Callable[[Tracer], Trace], error: type[Exception], sentence: str
) -> None:
    engine = open_engine()
    with pytest.raises(error, match=sentence):
        ask(engine)
    assert engine.trace([1]).hidden.shape[1] == 1


def test_a_long_trace_is_refused_with_the_numbers(open_engine: OpenEngine) -> None:
    engine = open_engine(context_tokens=10_000)
    with pytest.raises(InvalidRequest, match="4 heads x 10000 x 10000 of them attention; the limit is 1342") as raised:
        engine.trace([1] * 10_000)
    assert raised.value.hint is not None
    assert "at most" in raised.value.hint


def test_no_pages_and_no_engine(open_engine: OpenEngine) -> None:
    engine = open_engine(n_pages=2)
    with pytest.raises(NotEnoughMemory, match="cache of the trace"):
        engine.trace(TOKENS)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.trace(TOKENS)
