"""Runs a reader over a text, whole or cut into pieces, and folds what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from madang.core.events import ReasoningDelta, TextDelta, ToolCallDelta
from madang.formats.dialects import AnswerReader, CallSyntax, Thinking

NAMES = frozenset({"add", "weather", "search", "say"})
THINK = Thinking("<think>", "</think>")


@dataclass(frozen=True)
class Folded:
    """An answer put together; calls as (name, arguments)."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    ids: tuple[str, ...] = ()


def fold(pieces: Iterable[str], calls: CallSyntax | None, **options: Any) -> Folded:
    """Whatever the reader makes of these pieces."""
    reader = AnswerReader(options.pop("thinking", None), calls, NAMES, **options)
    deltas = [delta for piece in pieces for delta in reader.push(piece)] + reader.flush()
    said = [delta.call for delta in deltas if isinstance(delta, ToolCallDelta)]
    assert reader.n_calls == len(said)
    assert all(delta.text for delta in deltas if not isinstance(delta, ToolCallDelta))
    return Folded(
        "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)),
        "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)),
        tuple((call.name, dict(call.arguments)) for call in said),
        tuple(call.id for call in said),
    )


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """``text`` in pieces."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
