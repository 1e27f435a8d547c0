"""How well a small model foresees an example: what it cannot foresee may be noise, what it can too well, a loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from madang.core.engine import Loaded, LogitSource, Scored, Scorer
from madang.core.errors import ContextLengthExceeded, InvalidRequest
from madang.core.request import Request
from madang.training.examples.example import Example

MOST_TOKENS: Final = 512  # of a text; its beginning tells enough
_MOST_NATS: Final = 700.0  # per token; the exponential of more is no number


class Likelihood:
    """Perplexities by one engine: of the last answer after what comes before it, or of a text."""

    def __init__(self, engine: Loaded) -> None:
        """Raises InvalidRequest for an engine that cannot tell how likely anything is."""
        if not isinstance(engine, Scorer):
            raise InvalidRequest(
                f"The {engine.info.engine} engine cannot tell how likely a text is.",
                param="model",
                hint="Take one that can, such as native.",
            )
        self._engine = engine
        self._scorer: Scorer = engine

    def perplexities(self, examples: Sequence[Example]) -> Iterator[float | None]:
        """One for each, in order; None for a conversation that is longer than the model's context."""
        chats = [example for example in examples if example.text is None]
        scores = iter(self._of_chats(chats))
        for example in examples:
            yield next(scores) if example.text is None else self._of_text(example.text)

    def _of_chats(self, examples: Sequence[Example]) -> list[float | None]:
        """Together, or each alone where one of them is too long."""
        try:
            return [_perplexity(score) for (score,) in self._scorer.score_many(map(_item, examples))]
        except ContextLengthExceeded:
            return [None] if len(examples) == 1 else [p for one in examples for p in self._of_chats([one])]

    def _of_text(self, text: str) -> float:
        if not isinstance(self._engine, LogitSource):
            raise InvalidRequest("This engine reads answers, but no plain texts.", param="model")
        tokens = list(self._engine.tokenize(text))[: min(MOST_TOKENS, self._engine.info.context_tokens)]
        if len(tokens) < 2:
            return math.inf
        at, nats = 1, 0.0
        for rows in self._engine.logits(tokens):
            n = min(len(rows), len(tokens) - at)
            nats += _nats(np.asarray(rows[:n], np.float64), tokens[at : at + n])
            at += n
        return math.exp(min(nats / (len(tokens) - 1), _MOST_NATS))


def _item(example: Example) -> tuple[Request, Sequence[str]]:
    return Request(messages=example.messages[:-1], tools=example.tools), [example.messages[-1].content]


def _perplexity(score: Scored) -> float:
    return math.exp(min(-score.logprob / score.n_tokens, _MOST_NATS))


def _nats(rows: Any, tokens: Sequence[int]) -> float:
    if not len(tokens):
        return 0.0
    top = rows.max(axis=1)
    norms = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
    return float((norms - rows[np.arange(len(tokens)), tokens]).sum())
