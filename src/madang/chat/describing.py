"""What a session is about, in the words of its own model: a title, tags and a summary.

The model is asked behind the conversation itself, whose beginning is in the cache already, and held to a form. Small
models say what has nothing to do with it, so that what is not of the conversation's own words is not taken: then its
title stays the beginning of the first question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from madang.core.constraint import JsonSchema
from madang.core.messages import Message
from madang.core.request import Request
from madang.core.sampling import SamplingParams

TITLE_CHARACTERS: Final = 60
TAG_CHARACTERS: Final = 24
MOST_TAGS: Final = 5
SUMMARY_CHARACTERS: Final = 300
MAX_TOKENS: Final = 320  # of Korean in tokens of a model that was made for English
_AGAIN: Final = 4  # times as many questions, and it is described again
_OWN_SHARE: Final = 0.6  # of words that have to be the conversation's
_STEM_LETTERS: Final = 5
_MARKED_LETTERS: Final = 4  # of a word that says something: "of" and "the" are in every conversation

_ASK: Final = (
    "Describe our conversation up to here as JSON, in the language of the conversation: a title of a few words, at "
    "most five tags of one or two words, and a summary in one sentence."
)
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": TITLE_CHARACTERS},
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": TAG_CHARACTERS},
            "maxItems": MOST_TAGS,
        },
        "summary": {"type": "string", "maxLength": SUMMARY_CHARACTERS},
    },
    "required": ["title", "tags", "summary"],
    "additionalProperties": False,
}
_EDGES: Final = " \t\n\"'`*#.,:;“”‘’「」『』…-"
_LETTERS: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Description:
    """What could be taken of an answer; None and empty where nothing could."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    summary: str = ""


def is_due(n_questions: int, n_described: int) -> bool:
    """Whether a conversation of so many questions is to be described; ``n_described`` it had the last time, or 0."""
    return n_questions >= max(_AGAIN * n_described, 1)


def ask_for_description(request: Request) -> Request:
    """The request that gets one; ``request`` is the whole conversation, its last answer included."""
    return replace(
        request,
        messages=(*request.messages, Message("user", _ASK)),
        sampling=SamplingParams(temperature=0.0),
        max_tokens=MAX_TOKENS,
        stop=(),
        constraint=JsonSchema(_SCHEMA),
        tool_choice="none" if request.tools else "auto",
        reasoning=False,
        priority="background",
    )


def read_description(answer: str, messages: Iterable[Message]) -> Description:
    """What of a model's answer can be taken for a conversation; empty for what is not as it was asked for."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return Description()
    if not isinstance(found, dict):
        return Description()
    said = _Said(messages)
    title = _plain(found.get("title"), TITLE_CHARACTERS)
    summary = _plain(found.get("summary"), SUMMARY_CHARACTERS)
    return Description(
        title if said.has(title) else None,
        _tags(found.get("tags"), said),
        summary if said.has(summary) else "",
    )


def _tags(values: object, said: _Said) -> tuple[str, ...]:
    plain = [_plain(value, TAG_CHARACTERS) for value in values] if isinstance(values, list) else []
    good = {tag.casefold(): tag for tag in plain if said.has(tag)}
    return tuple(good.values())[:MOST_TAGS]


def _plain(value: object, most: int) -> str:
    """On one line and without what models put around it; empty for what is too long to be what was asked for."""
    text = " ".join(value.split()).strip(_EDGES) if isinstance(value, str) else ""
    return text if len(text) <= most else ""


class _Said:
    """The words of a conversation, and among them those of the person."""

    def __init__(self, messages: Iterable[Message]) -> None:
        said = [(message.role, _marks(message.content)) for message in messages]
        self._asked = frozenset[str]().union(*(marks for role, marks in said if role == "user"))
        self._all = self._asked.union(*(marks for role, marks in said if role == "assistant"))

    def has(self, text: str) -> bool:
        """Whether a text is of the conversation: mostly its words, one that says something the person's own, not what
        we asked once more, and not one word again and again."""
        words = _LETTERS.findall(text.casefold())
        known = [word for word in words if not self._all.isdisjoint(_marks(word))]
        if "<|" in text or len(known) < max(_OWN_SHARE * len(words), 1):
            return False
        if not any(_says_something(word) and not self._asked.isdisjoint(_marks(word)) for word in known):
            return False
        is_repeated = len(words) > 3 and len(set(words)) * 2 <= len(words)
        return not (is_repeated or _is_ours(words))


def _says_something(word: str) -> bool:
    return len(word) >= _MARKED_LETTERS or not word.isascii()


def _is_ours(words: Sequence[str]) -> bool:
    """Whether what we asked is only said again: three words of it in a row."""
    asked = " ".join(_LETTERS.findall(_ASK.casefold()))
    runs = (" ".join(words[i : i + 3]) for i in range(len(words) - 2))
    return any(run in asked for run in runs)


def _marks(text: str) -> frozenset[str]:
    """What words are known by whatever their endings: their beginning, and in other scripts pairs of letters, which a
    Korean word keeps before any particle."""
    found: set[str] = set()
    for word in _LETTERS.findall(text.casefold()):
        if word.isascii():
            found.add(word[:_STEM_LETTERS])
        else:
            found.update((word[i : i + 2] for i in range(len(word) - 1)) if len(word) > 1 else word)
            found.add(word[0])
    return frozenset(found)
