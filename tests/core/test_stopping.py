"""Stop strings against a definition that looks at the whole text, over every way of cutting it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from madang.core.stopping import StopMatcher

# Few letters, so that overlaps and near misses are common; one of them takes four bytes.
texts = st.text(alphabet="ab마🙂", max_size=24)
stops = st.lists(st.text(alphabet="ab마🙂", min_size=1, max_size=5), max_size=4).map(tuple)


def defined(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """What must be shown, and what ended it: the first stop string to be complete, the longest of them."""
    for end in range(1, len(text) + 1):
        complete = [candidate for candidate in stop if text[:end].endswith(candidate)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


@given(text=texts, stop=stops, sizes=st.lists(st.integers(0, 4), max_size=12))
def test_any_cut_gives_what_the_definition_gives(text: str, stop: tuple[str, ...], sizes: list[int]) -> None:
    matcher = StopMatcher(stop)
    shown, stopped_by = "", None
    for piece in cut(text, sizes):
        safe, stopped_by = matcher.push(piece)
        shown += safe
    assert (shown + matcher.flush(), stopped_by) == defined(text, stop)


@given(text=texts, stop=stops)
def test_what_is_held_back_is_the_longest_beginning_of_a_stop_string(text: str, stop: tuple[str, ...]) -> None:
    matcher = StopMatcher(stop)
    shown = ""
    for n_read, character in enumerate(text, start=1):
        safe, stopped_by = matcher.push(character)
        shown += safe
        if stopped_by is not None:
            return
        held = text[len(shown) : n_read]
        beginnings = {candidate[:length] for candidate in stop for length in range(1, len(candidate))}
        longest = max((b for b in beginnings if text[:n_read].endswith(b)), key=len, default="")
        assert held == longest


def test_nothing_follows_a_stop() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.push("before EN") == ("before ", None)
    assert matcher.push("D after") == ("", "END")
    assert matcher.push("more") == ("", "END")
    assert matcher.flush() == ""


def test_without_stop_strings_everything_passes_at_once() -> None:
    assert StopMatcher(()).push("as it comes") == ("as it comes", None)
