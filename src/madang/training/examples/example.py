"""The vocabulary of training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from madang.core.messages import Message, Tool


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn: a conversation, or ``text`` as it is.

    messages     the turns; the last is an answer. Empty for plain text
    source       the file or dataset that it came from, and ``line`` where in it, from 1; kept when it is written again
    tools        what the conversation's model was told it may call
    provenance   how it was made, for rows that a model wrote
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    source: str = ""
    line: int = 0
    tools: tuple[Tool, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """What is asked: everything that is not answered; the whole of a plain text."""
        if self.text is not None:
            return self.text
        return "\n".join(message.content for message in self.messages if message.role in ("user", "tool"))

    @property
    def answer(self) -> str:
        """What is learnt: the answers, or the text."""
        if self.text is not None:
            return self.text
        return "\n".join(message.content for message in self.messages if message.role == "assistant")

    @property
    def everything(self) -> str:
        """All that is said in it, in order."""
        return self.text if self.text is not None else "\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that cannot be used: its line from 1, and why, as the end of a sentence."""

    line: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole file. ``form`` is how its rows are written (forms.py)."""

    examples: list[Example]
    problems: list[Problem]
    form: str
