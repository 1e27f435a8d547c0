"""Forward steps without sampling or text, for ``madang bench``."""

from __future__ import annotations

import random
import time

from madang.core.errors import InvalidRequest, NotEnoughMemory
from madang.native.batch import compute
from madang.native.scheduler import Scheduler
from madang.native.sequence import CachedSequence, Share
from madang.native.work import Rows


def time_bare_steps(
    scheduler: Scheduler, vocab_size: int, prompt_tokens: int, decode_tokens: int
) -> tuple[float, float]:
    """Seconds to read a random prompt in chunks, and to decode at that depth. Nothing of it stays in the cache.

    Raises InvalidRequest for fewer tokens than none, NotEnoughMemory.
    """
    if min(prompt_tokens, decode_tokens) < 0:
        raise InvalidRequest(f"A benchmark of {prompt_tokens} and {decode_tokens} tokens makes no sense.")
    _check_room(scheduler, prompt_tokens + decode_tokens)
    draw = random.Random(time.perf_counter_ns())
    tokens = [draw.randrange(vocab_size) for _ in range(prompt_tokens + decode_tokens)]
    sequence = CachedSequence(tokens, prompt_tokens - 1, Rows())
    scheduler.cache.attach_apart(sequence)
    try:
        started = time.perf_counter()
        while sequence.n_computed < prompt_tokens:
            _advance(scheduler, sequence, min(scheduler.limits.chunk_tokens, prompt_tokens - sequence.n_computed))
        prompt_read = time.perf_counter()
        for _ in range(decode_tokens):
            _advance(scheduler, sequence, 1)
        return prompt_read - started, time.perf_counter() - prompt_read
    finally:
        scheduler.cache.pool.release(sequence.forget())


def _advance(scheduler: Scheduler, sequence: CachedSequence, n: int) -> None:
    if not scheduler.cache.grow(sequence, n):
        needed = scheduler.cache.most_pages(n) * scheduler.decoder.page_bytes
        raise NotEnoughMemory("The benchmark's cache", needed, None)
    compute(scheduler.decoder, [Share(sequence, n, [])])
    sequence.n_computed += n
    scheduler.cache.leave_behind(sequence)


def _check_room(scheduler: Scheduler, n_tokens: int) -> None:
    n_pages, n_obtainable = scheduler.cache.most_pages(n_tokens), scheduler.cache.pool.n_obtainable
    if n_pages > n_obtainable:
        page_bytes = scheduler.decoder.page_bytes
        raise NotEnoughMemory("The benchmark's cache", n_pages * page_bytes, n_obtainable * page_bytes)
