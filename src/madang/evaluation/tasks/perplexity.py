"""How likely texts are: perplexity per word, byte and token, each text read from its beginning."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from madang.core import Request
from madang.evaluation.tasks.task import Figure, Graded, Item, Prompt, Response, Task, mean_figure

_HEADING: Final = re.compile(r"^(?= = [^=].* = $)", re.MULTILINE)


class Perplexity(Task):
    """Word perplexity of some texts: exp(nats / words), words being what spaces separate.

    ``prefix`` is read before each text and not counted; unset, it is what the model begins texts with, or a line break.
    """

    metric: str = "word_perplexity"
    higher_is_better: bool = False

    def __init__(self, name: str, texts: Callable[[], Sequence[str]], prefix: str = "") -> None:
        super().__init__(name)
        self._texts, self._prefix = texts, prefix

    def items(self) -> list[Item]:
        """See Task."""
        return [Item(str(number), {"text": text}) for number, text in enumerate(self._texts())]

    def prompt(self, item: Item) -> Prompt:
        """The text, to be scored as a whole."""
        return Prompt(Request(prompt=self._prefix), (item.row["text"],), is_rolling=True)

    def score(self, item: Item, response: Response) -> float:
        """Nats."""
        return -response.scored[0].logprob

    def weight(self, item: Item, response: Response) -> float:
        """Words."""
        return 0.0 if response.problem is not None else float(len(re.split(r"\s+", item.row["text"])))

    def shown(self, mean: float) -> float:
        """See the class."""
        return math.exp(mean)

    def said(self, item: Item, response: Response) -> str:
        """Nothing was said."""
        return ""

    def also(self, graded: Sequence[Graded]) -> Mapping[str, Figure]:
        """The same per byte and per token; those per token compare models of one tokenizer only."""
        read = [own for own in graded if own.response.problem is None]
        nats = [own.score for own in read]
        n_bytes = [float(len(own.item.row["text"].encode())) for own in read]
        n_tokens = [float(own.response.scored[0].n_tokens) for own in read]
        return {
            "bits_per_byte": mean_figure(nats, n_bytes, lambda mean: mean / math.log(2)),
            "byte_perplexity": mean_figure(nats, n_bytes, math.exp),
            "token_perplexity": mean_figure(nats, n_tokens, math.exp),
        }


def articles_of(text: str) -> list[str]:
    """A WikiText file cut before its titles (" = Title = "); one without titles is one text."""
    return [article for article in _HEADING.split(text) if article.strip()]
