"""From the text of an answer, in pieces cut anywhere, to deltas.

Text goes out as soon as it cannot become anything else. Blanks around calls and around the reasoning belong to them,
up to MAX_BLANKS before them, so that little is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from madang.core.events import ReasoningDelta, TextDelta, ToolCallDelta
from madang.core.messages import ToolCall
from madang.formats.dialects.scanning import (
    MAX_BLANKS,
    NotACall,
    Scan,
    Source,
    blanks_begin,
    blanks_end,
    first_of,
    partial_length,
)
from madang.formats.dialects.syntax import MAX_BEGINNING, CallSyntax, Found, Names, Thinking

Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta


class AnswerReader:
    """Reads one answer.

    thinking          the tags of reasoning, None when the model has none
    thinking_is_open  the prompt ended inside the reasoning
    calls, names      how tool calls are written, and the known tools; None when there are no tools
    """

    def __init__(
        self, thinking: Thinking | None, calls: CallSyntax | None, names: Names, *, thinking_is_open: bool = False
    ) -> None:
        self._thinking = None if thinking is None else _ThinkingReader(thinking, is_open=thinking_is_open)
        self._calls = None if calls is None else _CallReader(calls, names)

    def push(self, text: str) -> list[Delta]:
        """What this piece of text decides."""
        return list(self._read(text, final=False))

    def flush(self) -> list[Delta]:
        """The rest; nothing is pushed afterwards."""
        return list(self._read("", final=True))

    @property
    def n_calls(self) -> int:
        """How many calls there have been."""
        return 0 if self._calls is None else self._calls.n_calls

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is reasoning, or the end of it."""
        return self._thinking is not None and self._thinking.is_inside

    def _read(self, text: str, *, final: bool) -> Iterator[Delta]:
        if self._thinking is not None:
            reasoning, text = self._thinking.read(text, final=final)
            if reasoning:
                yield ReasoningDelta(reasoning)
        if self._calls is not None:
            yield from self._calls.read(text, final=final)
        elif text:
            yield TextDelta(text)


class _ThinkingReader:
    """Splits an answer into the reasoning that it begins with, and the rest."""

    def __init__(self, tags: Thinking, *, is_open: bool) -> None:
        self._tags = tags
        self._held = ""
        self._state = "inside" if is_open else "before"
        self._at_edge = True  # only blanks so far inside the reasoning, or behind it

    @property
    def is_inside(self) -> bool:
        """Between the tags."""
        return self._state == "inside"

    def read(self, text: str, *, final: bool) -> tuple[str, str]:
        """Reasoning, and text that is none."""
        self._held += text
        if self._state == "before":
            self._open(final=final)
        reasoning = self._inside(final=final) if self._state == "inside" else ""
        return reasoning, self._behind(final=final) if self._state in ("behind", "without") else ""

    def _open(self, *, final: bool) -> None:
        at = blanks_end(self._held, 0)
        begin = self._held[at:]
        if at > MAX_BLANKS:
            self._state = "without"
        elif begin.startswith(self._tags.opening):
            self._held = begin[len(self._tags.opening) :]
            self._state = "inside"
        elif final or not self._tags.opening.startswith(begin):
            self._state = "without"

    def _inside(self, *, final: bool) -> str:
        """Reasoning up to the closing tag, without the blanks at both ends."""
        if self._at_edge:
            self._held = self._held.lstrip()
            self._at_edge = not self._held
        closing = self._tags.closing
        end = self._held.find(closing)
        if end >= 0:
            reasoning = self._held[: blanks_begin(self._held, 0, end)]
            self._held = self._held[end + len(closing) :]
            self._state, self._at_edge = "behind", True
            return reasoning
        n = len(self._held) if final else len(self._held) - partial_length(self._held, (closing,))
        n = n if final else blanks_begin(self._held, 0, n)
        reasoning, self._held = self._held[:n], self._held[n:]
        return reasoning

    def _behind(self, *, final: bool) -> str:
        if self._state == "behind" and self._at_edge:
            self._held = self._held.lstrip()
            self._at_edge = not self._held
        text, self._held = self._held, ""
        return text


class _CallReader:
    """Splits text into plain text and calls."""

    def __init__(self, syntax: CallSyntax, names: Names) -> None:
        self.n_calls = 0
        self._syntax = syntax
        self._names = names
        self._source = Source()
        self._at = 0  # where the text begins that is not decided
        self._scan: Scan[Found] | None = None  # of what may be a call there
        self._scan_begin = 0
        self._only_calls = True  # no text so far
        self._behind_call = False  # and nothing but blanks since, or one separator
        self._separator = ""  # the one that may still come

    def read(self, text: str, *, final: bool) -> Iterator[TextDelta | ToolCallDelta]:
        """The deltas that ``text`` decides."""
        self._source.append(text)
        while self._at < len(self._source.text):
            if self._scan is None:
                self._skip_behind_call()
                end, is_call = self._split(final=final)
                yield from self._text(end)
                if not is_call:
                    break
                self._scan_begin = blanks_end(self._source.text, self._at)
                self._scan = self._syntax.read(self._source, self._scan_begin, self._names)
            try:
                next(self._scan)
            except StopIteration as returned:
                yield from self._calls(returned.value)
            except NotACall as error:
                yield from self._text(max(error.end, self._scan_begin + 1))
            else:
                if final:
                    yield from self._text(len(self._source.text))
                return
        self._source.text = self._source.text[self._at :]
        self._at = 0

    def _skip_behind_call(self) -> None:
        if not self._behind_call:
            return
        text = self._source.text
        self._at = blanks_end(text, self._at)
        if self._separator and text.startswith(self._separator, self._at):
            self._at = blanks_end(text, self._at + len(self._separator))
            self._separator = ""
        self._behind_call = self._at == len(text)

    def _split(self, *, final: bool) -> tuple[int, bool]:
        """Where the text ends that is plain for certain, and whether a call may begin behind it and some blanks."""
        text = self._source.text
        if self._only_calls and self._syntax.begins is not None:
            begin = blanks_end(text, self._at)
            verdict = self._syntax.begins(text[begin : begin + MAX_BEGINNING]) if begin < len(text) else None
            if verdict or (verdict is None and not final):
                return blanks_begin(text, self._at, begin), verdict is not None
        markers = self._syntax.markers
        marker = first_of(text, markers, self._at)
        if marker >= 0:
            return blanks_begin(text, self._at, marker), True
        if final:
            return len(text), False
        n = len(text) - partial_length(text, markers, self._at)
        return blanks_begin(text, self._at, n) if markers else n, False

    def _text(self, end: int) -> Iterator[TextDelta]:
        """The text up to ``end`` is plain."""
        text, self._at, self._scan = self._source.text[self._at : end], end, None
        if text:
            self._only_calls = self._only_calls and text.isspace()
            self._behind_call = False
            yield TextDelta(text)

    def _calls(self, found: Found) -> Iterator[ToolCallDelta]:
        self._at, self._scan = found.end, None
        self._behind_call, self._separator = True, self._syntax.separator
        for name, arguments in found.calls:
            yield ToolCallDelta(ToolCall(self._syntax.call_id.format(self.n_calls), name, arguments))
            self.n_calls += 1
