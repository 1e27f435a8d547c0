"""Layers are put into pages so that windows save memory, and what that takes is counted exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.formats.spec import DecoderSpec
from madang.hardware import PageGroups, page_groups
from madang.hardware.kv_cache import KV_PAGE_TOKENS, MOST_PADDING
from tests.hardware.test_plan import SPEC


def spec_of(windows: tuple[int, ...], **changes: object) -> DecoderSpec:
    values = {"n_layers": len(windows), "window_tokens": windows, "context_tokens": 32_768, **changes}
    return replace(SPEC, **values)  # type: ignore[arg-type]


def pattern(n_layers: int, every: int, window: int = 512) -> tuple[int, ...]:
    """Every so many layers, one that sees everything."""
    return tuple(0 if layer % every == every - 1 else window for layer in range(n_layers))


@pytest.mark.parametrize(
    ("windows", "n_lasting", "n_window"),
    [
        ((0,) * 30, 1, 0),
        ((4096,) * 32, 0, 1),
        (pattern(18, 6), 1, 5),  # Gemma 3 270M: pages of 3 layers
        (pattern(26, 6), 2, 11),  # 1B: of 2; pages of 4 would leave room for 2 layers of 26 unused
        (pattern(34, 6), 1, 6),  # 4B: of 5, one unused
        (pattern(26, 2, 4096), 1, 1),  # Gemma 2 2B
        (pattern(64, 4), 1, 3),  # EXAONE 4
        ((32_768,) * 4, 1, 0),  # as long as the context
        ((32_768, 100, 0), 2, 1),
    ],
)
def test_groups_of_real_models(windows: tuple[int, ...], n_lasting: int, n_window: int) -> None:
    groups = page_groups(spec_of(windows))
    assert (groups.n_lasting, groups.n_window) == (n_lasting, n_window)


def test_an_encoder_has_one_group() -> None:
    assert page_groups(spec_of(pattern(12, 3), causal=False)).n_groups == 1


@given(st.lists(st.sampled_from((0, 512, 1024)), min_size=1, max_size=70).map(tuple))
def test_every_layer_has_a_place(windows: tuple[int, ...]) -> None:
    groups = page_groups(spec_of(windows))
    sizes = Counter(groups.layers)
    assert sorted(sizes) == list(range(groups.n_groups))
    room = max(sizes.values()) * groups.n_groups
    assert room - len(windows) <= MOST_PADDING * len(windows)
    for layer, window in enumerate(windows):
        assert (groups.layers[layer] >= groups.n_lasting) == bool(window)
        assert window <= groups.window_tokens
    assert all(sizes[group] == max(sizes.values()) for group in range(groups.n_lasting))


@given(st.integers(0, 200), st.integers(1, 60), st.integers(KV_PAGE_TOKENS, 120))
def test_the_most_pages_are_those_of_the_worst_step(n: int, step: int, window: int) -> None:
    groups = PageGroups((0, 1, 2), 1, 2, window)
    most = 0
    for begin in range(n):
        assert groups.first_seen(begin) * KV_PAGE_TOKENS <= max(begin + 1 - window, 0)
        last = (min(begin + step, n) - 1) // KV_PAGE_TOKENS
        most = max(most, groups.held_pages(last + 1, groups.first_held(begin)))
    assert most <= groups.most_pages(n, step) <= most + groups.n_window
