"""Units as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.units import format_bytes, format_count, format_duration, parse_bytes


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (98_362_432, "98.4 MB"),
        (999_600_000, "1.00 GB"),
        (10**16, "10000 TB"),
    ],
)
def test_bytes_have_three_digits(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("4GB", 4 * 10**9), ("512MiB", 512 * 2**20), ("95 mb", 95 * 10**6), ("7", 7), ("1.5k", 1500)]
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1", "4 parsecs", "1e9"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@given(st.integers(0, 10**15))
def test_what_is_formatted_reads_back_within_half_a_percent(n_bytes: int) -> None:
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.0051)


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12 ms"), (3.21, "3.2 s"), (75, "1 min 15 s")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(260, "260"), (134_515_008, "135M"), (1_711_376_384, "1.7B"), (7_248_023_552, "7.2B"), (12_000, "12K")],
)
def test_counts_of_weights(count: int, text: str) -> None:
    assert format_count(count) == text
