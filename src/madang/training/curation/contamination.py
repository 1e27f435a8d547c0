"""Whether a model is about to learn what it will be measured on.

As since GPT-3 (arXiv:2005.14165, appendix C): runs of WORDS words that a training example shares with an evaluation
item. Korean joins particles to words and splits them freely, so a text that is mostly Hangul is compared by runs of
CHARACTERS characters without spaces. An item that is shorter than a run is compared whole, unless it is so short that
it could be anyone's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from madang.training.curation.measures import hangul_share
from madang.training.examples.example import Example
from madang.training.similarity import normalized

WORDS: Final = 13
CHARACTERS: Final = 20
MIN_WORDS: Final = 5  # of an item that is compared whole
MIN_CHARACTERS: Final = 10
_SHOWN: Final = 5
_SHOWN_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True)
class Found:
    """What an example shares with an evaluation set: its line there, and the share of that item's runs."""

    set_name: str
    line: int
    overlap: float


@dataclass(slots=True)
class _Set:
    name: str
    lines: list[int] = field(default_factory=list)
    n_runs: list[int] = field(default_factory=list)
    too_short: int = 0
    found: dict[int, float] = field(default_factory=dict)


class EvaluationSets:
    """The runs of all items that must not be learnt, and what was found of them."""

    def __init__(self, sets: Iterable[tuple[str, Iterable[Example]]]) -> None:
        """``sets`` are names and items; of an item, what is asked and what is answered are compared apart."""
        self._sets: list[_Set] = []
        self._owners: dict[str, list[tuple[int, int]]] = {}
        self.examples = 0
        self.contaminated = 0
        self.shown: list[dict[str, Any]] = []
        for number, (name, items) in enumerate(sets):
            self._sets.append(_Set(name))
            for item in items:
                self._add(number, item)

    def _add(self, number: int, item: Example) -> None:
        kept = self._sets[number]
        runs = {run for text in _parts(item) for run in _item_runs(text)}
        if not runs:
            kept.too_short += 1
            return
        kept.lines.append(item.line)
        kept.n_runs.append(len(runs))
        for run in runs:
            self._owners.setdefault(run, []).append((number, len(kept.lines) - 1))

    def find(self, example: Example) -> Found | None:
        """What of an example is in a set, the most that is of one item; None when nothing is."""
        self.examples += 1
        hits: dict[tuple[int, int], int] = {}
        for run in {run for text in _parts(example) for run in _runs(text)}:
            for owner in self._owners.get(run, ()):
                hits[owner] = hits.get(owner, 0) + 1
        if not hits:
            return None
        self.contaminated += 1
        for (number, item), count in hits.items():
            kept = self._sets[number]
            kept.found[item] = max(kept.found.get(item, 0.0), count / kept.n_runs[item])
        (number, item), count = max(hits.items(), key=lambda hit: hit[1] / self._sets[hit[0][0]].n_runs[hit[0][1]])
        kept = self._sets[number]
        found = Found(kept.name, kept.lines[item], count / kept.n_runs[item])
        if len(self.shown) < _SHOWN:
            text = " ".join(example.everything.split())[:_SHOWN_CHARACTERS]
            about = {"set": found.set_name, "item": found.line, "overlap": round(found.overlap, 3)}
            self.shown.append({"line": example.line, "text": text, **about})
        return found

    def to_dict(self) -> dict[str, Any]:
        """For JSON: how many examples share something, and how much of each set is found."""
        return {
            "examples": self.examples,
            "contaminated": self.contaminated,
            "sets": [
                {
                    "name": kept.name,
                    "items": len(kept.lines) + kept.too_short,
                    "too_short": kept.too_short,
                    "found": len(kept.found),
                    "found_whole": sum(share >= 1 for share in kept.found.values()),
                }
                for kept in self._sets
            ],
            "examples_of": self.shown,
        }


def _parts(example: Example) -> Sequence[str]:
    return (example.text,) if example.text is not None else tuple(message.content for message in example.messages)


def _item_runs(text: str) -> list[str]:
    """What an item is recognised by."""
    words = normalized(text).split()
    letters = "".join(words)
    if hangul_share(text) >= 0.5:
        if len(letters) >= CHARACTERS:
            return _of_letters(letters)
        return ["=" + letters] if len(letters) >= MIN_CHARACTERS else []
    if len(words) >= WORDS:
        return _of_words(words)
    return ["=" + letters] if len(words) >= MIN_WORDS else []


def _runs(text: str) -> list[str]:
    """The same of what is learnt: in each way in which an item may be recognised."""
    words = normalized(text).split()
    letters = "".join(words)
    korean = _of_letters(letters) if hangul_share(text) > 0 else []
    return [*_of_words(words), *korean, "=" + letters]


def _of_words(words: Sequence[str]) -> list[str]:
    return [" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)]


def _of_letters(letters: str) -> list[str]:
    return [letters[i : i + CHARACTERS] for i in range(len(letters) - CHARACTERS + 1)]
