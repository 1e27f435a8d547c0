"""Engines for tasks: one that finds long continuations likely, one that gives logits of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from madang.core import Request, Scored
from madang.core.errors import ContextLengthExceeded
from madang.engines.echo import EchoEngine

MOST_CHARACTERS = 1000


class LengthScorer(EchoEngine):
    """Echoes, and scores a continuation by its characters. A context that is too long is refused."""

    def __init__(self) -> None:
        super().__init__("lengths")
        self.n_scored = 0

    def score(self, context: Request, continuations: Sequence[str]) -> list[Scored]:
        """0.1 nats for each character that it has less than 100."""
        if len(context.prompt or "") > MOST_CHARACTERS:
            raise ContextLengthExceeded(len(context.prompt or ""), MOST_CHARACTERS)
        self.n_scored += 1
        return [Scored(-0.1 * (100 - len(text)), len(text), False) for text in continuations]

    def score_many(self, items: Iterable[tuple[Request, Sequence[str]]]) -> Iterator[list[Scored]]:
        """The same, with some items ahead, as engines do."""
        ahead: list[list[Scored]] = []
        for context, continuations in items:
            ahead.append(self.score(context, continuations))
            if len(ahead) > 2:
                yield ahead.pop(0)
        yield from ahead


class ByteLogits(EchoEngine):
    """A token per byte, each as likely as a table says."""

    def __init__(self, context_tokens: int = 4096) -> None:
        super().__init__("bytes", context_tokens)
        self.rows = np.random.default_rng(0).normal(0, 2, (256, 256)).astype(np.float32)
        self.longest = 0

    def tokenize(self, text: str) -> Sequence[int]:
        """Bytes."""
        return [*text.encode()]

    def logits(self, tokens: Sequence[int]) -> Iterator[Any]:
        """In blocks of three."""
        assert len(tokens) <= self.info.context_tokens
        self.longest = max(self.longest, len(tokens))
        for begin in range(0, len(tokens), 3):
            yield self.rows[[*tokens[begin : begin + 3]]]

    def nats(self, text: str) -> float:
        """Of all bytes but the first."""
        rows = self.rows.astype(np.float64)
        logprobs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        data = text.encode()
        return -float(sum(logprobs[a, b] for a, b in pairwise(data)))
