"""Rotary frequencies against ``transformers`` and against what the papers promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.formats.rope import Frequencies, Llama3, Yarn, base_frequencies, long_rope_magnitude, scale_linear

BASES = (10_000.0, 500_000.0)
N_DIMS = (2, 8, 64, 80, 128)

bases = st.floats(1000, 1e7)
dims = st.sampled_from(N_DIMS)
factors = st.floats(1, 64)
contexts = st.integers(64, 1 << 20)


def reference(n_dims: int, base: float, **scaling: Any) -> tuple[npt.NDArray[np.float32], float]:
    """Inverse frequencies and attention factor as ``transformers`` has them."""
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    config = transformers.LlamaConfig(
        hidden_size=4 * n_dims,
        num_attention_heads=4,
        head_dim=n_dims,
        max_position_embeddings=1 << 20,
        rope_parameters={"rope_theta": base, **scaling},
    )
    frequencies, attention_factor = rope_utils.ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    return frequencies.numpy(), float(attention_factor)


def assert_equal(ours: Frequencies, theirs: npt.NDArray[np.float32]) -> None:
    assert ours.dtype == np.float64
    assert np.allclose(ours, theirs, rtol=2e-6, atol=0)  # theirs are float32


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("n_dims", N_DIMS)
@pytest.mark.parametrize("factor", [1.0, 2.0, 7.5])
def test_linear_scaling_equals_transformers(n_dims: int, base: float, factor: float) -> None:
    theirs, attention_factor = reference(n_dims, base, rope_type="linear", factor=factor)
    assert_equal(scale_linear(base_frequencies(base, n_dims), factor), theirs)
    assert attention_factor == 1


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("n_dims", N_DIMS)
@pytest.mark.parametrize("factor", [1.0, 4.0, 40.0])
@pytest.mark.parametrize("original", [128, 4096, 32_768])
def test_yarn_equals_transformers(n_dims: int, base: float, factor: float, original: int) -> None:
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    theirs, attention_factor = reference(n_dims, base, **scaling)
    yarn = Yarn(factor, base, original)
    assert_equal(yarn.scale(base_frequencies(base, n_dims)), theirs)
    assert yarn.magnitude == pytest.approx(attention_factor)


def test_yarn_with_other_limits_equals_transformers() -> None:
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2048}
    theirs, _ = reference(64, 10_000.0, **scaling, beta_fast=16.0, beta_slow=2.0)
    yarn = Yarn(8.0, 10_000.0, 2048, beta_fast=16.0, beta_slow=2.0)
    assert_equal(yarn.scale(base_frequencies(10_000.0, 64)), theirs)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("n_dims", N_DIMS)
@pytest.mark.parametrize("original", [128, 8192])
def test_llama3_equals_transformers(n_dims: int, base: float, original: int) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    theirs, attention_factor = reference(n_dims, base, **scaling, original_max_position_embeddings=original)
    assert_equal(Llama3(8.0, 1.0, 4.0, original).scale(base_frequencies(base, n_dims)), theirs)
    assert attention_factor == 1


@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
def test_the_magnitude_of_long_rope_equals_transformers(factor: float) -> None:
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": factor}
    _, attention_factor = reference(8, 10_000.0, **scaling, original_max_position_embeddings=4096)
    assert long_rope_magnitude(factor, 4096) == pytest.approx(attention_factor)


@given(bases, dims)
def test_frequencies_fall_from_one(base: float, n_dims: int) -> None:
    frequencies = base_frequencies(base, n_dims)
    assert frequencies.shape == (n_dims // 2,)
    assert frequencies[0] == 1
    assert (np.diff(frequencies) < 0).all()
    assert (frequencies > 1 / base).all()


@given(bases, dims, factors, contexts)
def test_yarn_lies_between_kept_and_interpolated(base: float, n_dims: int, factor: float, original: int) -> None:
    plain = base_frequencies(base, n_dims)
    yarn = Yarn(factor, base, original)
    scaled = yarn.scale(plain)
    assert (scaled <= plain * (1 + 1e-12)).all()
    assert (scaled >= scale_linear(plain, factor) * (1 - 1e-12)).all()
    assert yarn.magnitude >= 1


def test_yarn_keeps_the_fast_and_interpolates_the_slow() -> None:
    plain = base_frequencies(10_000.0, 128)
    scaled = Yarn(4.0, 10_000.0, 4096).scale(plain)
    turns = 4096 * plain / (2 * math.pi)
    assert np.array_equal(scaled[turns > 40], plain[turns > 40])
    assert np.allclose(scaled[turns < 0.7], plain[turns < 0.7] / 4)


@given(bases, dims, contexts)
def test_a_factor_of_one_changes_nothing(base: float, n_dims: int, original: int) -> None:
    plain = base_frequencies(base, n_dims)
    yarn = Yarn(1.0, base, original)
    assert np.allclose(yarn.scale(plain), plain, rtol=1e-15)
    assert yarn.magnitude == 1
    assert np.array_equal(scale_linear(plain, 1.0), plain)
