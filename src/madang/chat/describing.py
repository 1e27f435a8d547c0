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
_OWN_SHARE: Final = 0.6  # of pairs of letters that have to be the conversation's

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
    said = [message.content for message in messages if message.role in ("user", "assistant")]
    pairs = _pairs(" ".join(said))
    title = _plain(found.get("title"), TITLE_CHARACTERS)
    summary = _plain(found.get("summary"), SUMMARY_CHARACTERS)
    return Description(
        title if _is_good(title, pairs) else None,
        _tags(found.get("tags"), pairs),
        summary if _is_good(summary, pairs) else "",
    )


def _tags(values: object, pairs: frozenset[str]) -> tuple[str, ...]:
    plain = [_plain(value, TAG_CHARACTERS) for value in values] if isinstance(values, list) else []
    good = [tag for tag in plain if _is_good(tag, pairs)]
    return tuple({tag.casefold(): tag for tag in reversed(good)}.values())[::-1][:MOST_TAGS]


def _plain(value: object, most: int) -> str:
    """On one line and without what models put around it; empty for what is too long to be what was asked for."""
    text = " ".join(value.split()).strip(_EDGES) if isinstance(value, str) else ""
    return text if len(text) <= most else ""


def _is_good(text: str, pairs: frozenset[str]) -> bool:
    """Whether it is of the conversation: mostly its own letters, not ours, and not one word again and again."""
    words = _LETTERS.findall(text.casefold())
    own = _pairs(text)
    if not own or len(own & pairs) < _OWN_SHARE * len(own) or "<|" in text:
        return False
    if len(words) > 3 and len(set(words)) * 2 <= len(words):
        return False
    return not _is_ours(words)


def _is_ours(words: Sequence[str]) -> bool:
    """Whether what we asked is only said again: three words of it in a row."""
    asked = " ".join(_LETTERS.findall(_ASK.casefold()))
    runs = (" ".join(words[i : i + 3]) for i in range(len(words) - 2))
    return any(run in asked for run in runs)


def _pairs(text: str) -> frozenset[str]:
    """Neighbouring letters inside words: what Korean words keep whatever particle follows them."""
    words = _LETTERS.findall(text.casefold())
    return frozenset(word[i : i + 2] for word in words for i in range(len(word) - 1))
