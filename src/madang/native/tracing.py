"""The inside of a forward step: hidden states, attention, and what each layer would say (core.engine.Trace).

All tokens are read in one step of their own, in pages that nobody else sees, so nothing is taken from the prefix tree.
The logit lens is computed some rows at a time, and answers go on in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from madang.core.engine import Trace
from madang.core.errors import EngineError, InvalidRequest, NotEnoughMemory
from madang.formats.spec import DecoderSpec
from madang.native.batch import compute
from madang.native.pages import pages_for
from madang.native.scheduler import Scheduler
from madang.native.sequence import CachedSequence, Namespace, Share
from madang.native.work import Rows
from madang.native.worker import Worker

MAX_NUMBERS: Final = 1 << 27  # of one trace, 512 MiB

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class Inside(NamedTuple):
    """What a step kept: [layers + 1, n, n_embd] and [layers, heads, n, n]."""

    hidden: Floats
    attention: Floats


def check_trace(spec: DecoderSpec, tokens: Sequence[int], n_top: int) -> None:
    """Raise InvalidRequest when such a trace cannot be made of that model."""
    if not 0 <= n_top <= spec.vocab_size:
        raise InvalidRequest(f"n_top is {n_top}, but must be from 0 to {spec.vocab_size}.", param="n_top")
    if not all(0 <= token < spec.vocab_size for token in tokens):
        raise InvalidRequest(f"A token is from 0 to {spec.vocab_size - 1}.", param="prompt")
    n = len(tokens)
    if _n_numbers(spec, n) <= MAX_NUMBERS:
        return
    most = max(k for k in range(n) if _n_numbers(spec, k) <= MAX_NUMBERS)
    raise InvalidRequest(
        f"A trace of {n} tokens has {_n_numbers(spec, n)} numbers, {spec.n_layers} layers x {spec.n_heads} heads "
        f"x {n} x {n} of them attention; the limit is {MAX_NUMBERS}.",
        param="prompt",
        hint=f"Trace at most {most} tokens of this model at a time.",
    )


def trace_tokens(worker: Worker, tokens: list[int], namespace: Namespace, n_top: int) -> Trace:
    """The trace of a decoder; ``check_trace`` has been asked. Raises NotEnoughMemory, EngineError."""
    try:
        inside = worker.ask(lambda scheduler: _read(scheduler, tokens, namespace))
        words, logits = _lens(worker, inside.hidden, n_top)
    except (MemoryError, ValueError) as error:
        raise as_trace_error(error, len(tokens)) from error
    return Trace(tuple(tokens), inside.hidden, inside.attention, words, logits)


def as_trace_error(error: Exception, n_tokens: int) -> EngineError | NotEnoughMemory:
    """What a failure of the core means to whoever asked for the trace."""
    if isinstance(error, MemoryError):
        return NotEnoughMemory(f"The trace of {n_tokens} tokens", 4 * MAX_NUMBERS, None)
    return EngineError(f"The engine failed at this trace: {error}.")


def no_lens(hidden: Floats) -> tuple[Ints, Floats]:
    """Words and logits where nothing is asked for."""
    shape = (*hidden.shape[:2], 0)
    return np.zeros(shape, np.int32), np.zeros(shape, np.float32)


def _n_numbers(spec: DecoderSpec, n: int) -> int:
    return spec.n_layers * spec.n_heads * n * n + (spec.n_layers + 1) * n * spec.n_embd


def _read(scheduler: Scheduler, tokens: list[int], namespace: Namespace) -> Inside:
    """One step over all tokens."""
    n, decoder, cache = len(tokens), scheduler.decoder, scheduler.cache
    sequence = CachedSequence(tokens, n, Rows(), "background", namespace)
    cache.attach_apart(sequence)
    try:
        if not cache.grow(sequence, n):
            needed = pages_for(n) * cache.groups.n_groups * decoder.page_bytes
            raise NotEnoughMemory("The cache of the trace", needed, cache.pool.n_obtainable * decoder.page_bytes)
        compute(decoder, [Share(sequence, n, [])], trace=True)
        return Inside(decoder.traced_hidden(), decoder.traced_attention())
    finally:
        decoder.drop_trace()
        cache.pool.release(sequence.forget())


def _lens(worker: Worker, hidden: Floats, n_top: int) -> tuple[Ints, Floats]:
    """The likeliest words after each state, [layers + 1, n, n_top], and their logits."""
    if n_top == 0:
        return no_lens(hidden)
    states = hidden.reshape(-1, hidden.shape[-1])
    words, logits = np.empty((len(states), n_top), np.int32), np.empty((len(states), n_top), np.float32)
    begin = 0
    while begin < len(states):
        rows = worker.ask(lambda scheduler, begin=begin: _read_out(scheduler, states[begin:]))  # type: ignore[misc]
        for row in rows:
            order = np.argpartition(-row, n_top - 1)[:n_top]
            words[begin] = order[np.lexsort((order, -row[order]))]
            logits[begin] = row[words[begin]]
            begin += 1
    shape = (*hidden.shape[:2], n_top)
    return words.reshape(shape), logits.reshape(shape)


def _read_out(scheduler: Scheduler, states: Floats) -> list[Floats]:
    """Logits of as many of the states as a step may have rows."""
    states = states[: scheduler.limits.rows]
    scheduler.decoder.read_out(states)
    return [scheduler.decoder.logits(row) for row in range(len(states))]
