"""The examples of a run, as tokens: learned from, and held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from madang.core.errors import InvalidRequest
from madang.core.messages import Message
from madang.training.config import TuneConfig
from madang.training.examples import Encoded, Example, Loaded, encode, load_examples, split
from madang.training.examples.encoding import NO_LOSS
from madang.training.extraction import FORM, extraction_examples
from madang.training.models import FolderModel


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learns from and is measured on; ``told`` is what became of the rows, for result.json."""

    items: Sequence[Encoded]
    held_out: Sequence[Encoded]
    told: dict[str, Any]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(item.input_ids) for item in self.items]


def read_data(config: TuneConfig, model: FolderModel, max_tokens: int) -> RunData:
    """Load, split and encode. Raises InvalidRequest when nothing is left to learn from."""
    loaded = _load(config.data, config.form)
    examples = _thinned(loaded.examples, config.examples)
    if config.validation is not None:
        learned, aside = examples, _load(config.validation, config.form).examples
    else:
        parts = split(examples, config.validation_share, config.seed)
        learned, aside = parts.train, parts.validation
    aside = _thinned(aside, config.validation_examples)
    encoded = [
        encode(
            [_with_system(one, config.system) for one in part],
            model.tokenizer,
            model.template,
            max_tokens=max_tokens,
            too_long=config.too_long,
        )
        for part in (learned, aside)
    ]
    items, held_out = ([one for one in map(_cut, part.items) if one is not None] for part in encoded)
    if not items:
        raise InvalidRequest(
            f"Nothing in {config.data} can be learned from: {len(loaded.problems)} rows have problems, "
            f"{encoded[0].report.too_long} examples are longer than {max_tokens} tokens.",
            param="data",
            hint=_first_problem(loaded),
        )
    told = {
        "form": loaded.form,
        "problems": [{"line": one.line, "sentence": one.sentence} for one in loaded.problems],
        "learned": encoded[0].report.to_dict(),
        "held_out": encoded[1].report.to_dict(),
    }
    return RunData(items, held_out, told)


def _load(data: str, form: str | None) -> Loaded:
    return extraction_examples(Path(data)) if form == FORM else load_examples(data, form=form)


def _first_problem(loaded: Loaded) -> str | None:
    return f"Line {loaded.problems[0].line}: {loaded.problems[0].sentence}." if loaded.problems else None


def _thinned(examples: Sequence[Example], most: int | None) -> list[Example]:
    """At most so many, spread over all."""
    n = len(examples) if most is None else min(most, len(examples))
    return [examples[number * len(examples) // n] for number in range(n)]


def _with_system(example: Example, system: str | None) -> Example:
    if system is None or not example.messages or example.messages[0].role == "system":
        return example
    return replace(example, messages=(Message("system", system), *example.messages))


def _cut(item: Encoded) -> Encoded | None:
    """Without what comes after the last learned token, which changes nothing; None where none is learned."""
    learned = np.flatnonzero(item.labels != NO_LOSS)
    if not len(learned) or not learned[-1]:
        return None
    end = int(learned[-1]) + 1
    return Encoded(item.input_ids[:end], item.labels[:end])
