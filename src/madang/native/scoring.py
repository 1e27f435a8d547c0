"""How likely given continuations are, for evaluations with answers to choose from.

What items share is computed once: the scheduler lets an item wait while another computes the same beginning, so the
examples at the head of a test are read once, a question once, and each of its answers alone. The first tokens of all
answers come from one and the same row, so answers of one token cost nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from madang.core.engine import Scored
from madang.core.errors import ContextLengthExceeded, InvalidRequest
from madang.core.request import Request
from madang.native.prompt import Prompter
from madang.native.sequence import CachedSequence, Namespace
from madang.native.work import Likelihoods
from madang.native.worker import Worker

ITEMS_AHEAD = 32


class Encoded(NamedTuple):
    """Tokens of a context and of what is to be scored after it."""

    context: tuple[int, ...]
    continuation: list[int]


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of one sequence: those after ``context``, each with the tokens that may come there."""

    work: Likelihoods
    sequence: CachedSequence


class _Continuation(NamedTuple):
    """Tokens to score. The first is the ``place``-th candidate in ``head``, the others are the rows of ``rest``."""

    tokens: list[int]
    head: _Part
    place: int
    rest: _Part | None


def score_items(worker: Worker, items: Iterable[tuple[Sequence[Encoded], Namespace]]) -> Iterator[list[Scored]]:
    """The scores of each item's continuations, in order, as background work.

    Items are taken a few ahead of the one that is yielded, so that the engine has enough to compute at once.
    """
    ahead: deque[list[_Continuation]] = deque()
    try:
        for encoded, namespace in items:
            item = _item(encoded, namespace)
            ahead.append(item)
            for part in _parts(item):
                worker.submit(part.sequence)
            if len(ahead) >= ITEMS_AHEAD:
                yield _scores(ahead.popleft())
        while ahead:
            yield _scores(ahead.popleft())
    finally:
        for item in ahead:
            for part in _parts(item):
                worker.cancel(part.sequence)


def encode_continuation(prompter: Prompter, n_ctx: int, context: Request, continuation: str) -> Encoded:
    """The tokens of both. Raises InvalidRequest when one is empty, ContextLengthExceeded."""
    tokens, n_context = prompter.continued(context, continuation)
    if n_context == 0:
        raise InvalidRequest("The context to score after is empty.", param="context")
    if n_context == len(tokens):
        raise InvalidRequest("A continuation to score is empty.", param="continuations")
    if len(tokens) - 1 > n_ctx:
        raise ContextLengthExceeded(len(tokens) - 1, n_ctx)
    return Encoded(tuple(tokens[:n_context]), tokens[n_context:])


def _item(encoded: Sequence[Encoded], namespace: Namespace) -> list[_Continuation]:
    firsts: dict[tuple[int, ...], list[int]] = {}  # by context: a tokenizer may cut its end in several ways
    places = []
    for context, tokens in encoded:
        candidates = firsts.setdefault(context, [])
        places.append(len(candidates))
        candidates.append(tokens[0])
    heads = {context: _part([*context], len(context) - 1, [found], namespace) for context, found in firsts.items()}
    return [
        _Continuation(tokens, heads[context], place, _rest(context, tokens, namespace))
        for (context, tokens), place in zip(encoded, places, strict=True)
    ]


def _rest(context: tuple[int, ...], tokens: list[int], namespace: Namespace) -> _Part | None:
    if len(tokens) == 1:
        return None
    return _part([*context, *tokens[:-1]], len(context), [[token] for token in tokens[1:]], namespace)


def _parts(item: list[_Continuation]) -> list[_Part]:
    found = [part for continuation in item for part in (continuation.head, continuation.rest)]
    return list(dict.fromkeys(part for part in found if part is not None))


def _part(tokens: list[int], first_row: int, candidates: list[list[int]], namespace: Namespace) -> _Part:
    work = Likelihoods(candidates)
    sequence = CachedSequence(tokens, first_row, work, priority="background", namespace=namespace)
    return _Part(work, sequence)


def _scores(item: list[_Continuation]) -> list[Scored]:
    rows = {part: part.work.outbox.take() for part in _parts(item)}
    return [_score(found, rows) for found in item]


def _score(found: _Continuation, rows: dict[_Part, list[tuple[list[float], int]]]) -> Scored:
    logprobs, best = rows[found.head][0]
    total, is_greedy = logprobs[found.place], best == found.tokens[0]
    for token, ((logprob,), best) in zip(found.tokens[1:], rows[found.rest] if found.rest else (), strict=True):
        total += logprob
        is_greedy = is_greedy and best == token
    return Scored(total, len(found.tokens), is_greedy)
