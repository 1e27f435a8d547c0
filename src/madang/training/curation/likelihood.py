"""How well a small model foresees an example: what it cannot foresee may be noise, what it can too well, a loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np

from madang.core.engine import EngineInfo, Loaded, LogitSource, Scorer
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.training.examples.example import Example

MOST_TOKENS: Final = 512  # of a text; its beginning tells enough


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

    def perplexities(self, examples: Sequence[Example]) -> Iterator[float]:
        """One for each, in order. Raises ContextLengthExceeded for a conversation that is too long for the model."""
        chats = [example for example in examples if example.text is None]
        scorer = cast(Scorer, self._engine)
        scores = scorer.score_many(
            (Request(messages=example.messages[:-1], tools=example.tools), [example.messages[-1].content])
            for example in chats
        )
        for example in examples:
            if example.text is not None:
                yield self._of_text(example.text)
            else:
                (score,) = next(scores)
                yield math.exp(min(-score.logprob / score.n_tokens, 700.0))

    def _of_text(self, text: str) -> float:
        if not isinstance(self._engine, LogitSource):
            raise InvalidRequest("This engine reads answers, but no plain texts.", param="model")
        info: EngineInfo = self._engine.info
        tokens = list(self._engine.tokenize(text))[: min(MOST_TOKENS, info.context_tokens)]
        if len(tokens) < 2:
            return math.inf
        at, nats = 1, 0.0
        for rows in self._engine.logits(tokens):
            n = min(len(rows), len(tokens) - at)
            nats += _nats(np.asarray(rows[:n], np.float64), tokens[at : at + n])
            at += n
        return math.exp(min(nats / (len(tokens) - 1), 700.0))


def _nats(rows: Any, tokens: Sequence[int]) -> float:
    if not len(tokens):
        return 0.0
    top = rows.max(axis=1)
    norms = top + np.log(np.exp(rows - top[:, None]).sum(axis=1))
    return float((norms - rows[np.arange(len(tokens)), tokens]).sum())
