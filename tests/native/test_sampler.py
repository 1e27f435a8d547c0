"""The sampler against the same rules written in numpy: bias, penalties, temperature, top-k, top-p, min-p, draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang import _core
from tests.native.bare import BareModel, bare_decoder
from tests.parity.running import read

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]

RNG = np.random.default_rng(5)
FEW = RNG.normal(0, 1, 40).astype(np.float32)
MANY = RNG.normal(0, 1.5, 3000).astype(np.float32)  # more than the sampler sorts at first


@dataclass(frozen=True)
class Options:
    """Everything off, so that a test names what it is about."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 0
    seed: int = 0
    bias: tuple[tuple[int, float], ...] = ()

    def sampler(self, history: Sequence[int] = ()) -> _core.Sampler:
        options = _core.SamplerOptions()
        for field in fields(self):
            value = getattr(self, field.name)
            setattr(options, field.name, list(value) if field.name == "bias" else value)
        sampler = _core.Sampler(options)
        sampler.accept(np.array(history, np.int32))
        return sampler


def draws(options: Options, logits: Logits, n: int) -> list[int]:
    sampler = options.sampler()
    return [sampler.sample_from(logits).token for _ in range(n)]


# ---- the reference


def adjusted(options: Options, logits: Logits, history: Sequence[int]) -> Logits:
    """Bias, then penalties for what is in the history."""
    result = logits.copy()
    for token, value in options.bias:
        result[token] += np.float32(value)
    n = options.repeat_last_n
    recent = list(history) if n < 0 else list(history)[len(history) - n :] if 0 < n < len(history) else list(history)
    for token, count in Counter(recent if n else []).items():
        factor = np.float32(options.repeat_penalty)
        result[token] = result[token] / factor if result[token] > 0 else result[token] * factor
        result[token] -= np.float32(options.presence_penalty) + np.float32(options.frequency_penalty) * np.float32(
            count
        )
    return result


def distribution(options: Options, logits: Logits) -> Probabilities:
    """Probabilities of adjusted logits after temperature, top-k, top-p and min-p; equal logits rank by their id."""
    scaled = logits.astype(np.float64) / options.temperature
    order = np.argsort(-scaled, kind="stable")
    if 0 < options.top_k < len(order):
        order = order[: options.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    before = np.cumsum(weights) - weights
    keep = (before < options.top_p * weights.sum()) & (weights >= options.min_p)
    keep[0] = True
    probabilities = np.zeros(len(logits))
    probabilities[order[keep]] = weights[keep] / weights[keep].sum()
    return probabilities


def assert_drawn_from(probabilities: Probabilities, tokens: Sequence[int]) -> None:
    """Pearson's chi-square below what chance gives once in ten thousand times; nothing impossible was drawn."""
    counts = np.bincount(tokens, minlength=len(probabilities))
    assert not counts[probabilities == 0].any()
    expected = probabilities * len(tokens)
    common = expected >= 5
    bins = np.append(counts[common], counts[~common].sum())
    expected_bins = np.append(expected[common], expected[~common].sum())
    bins, expected_bins = bins[expected_bins > 0], expected_bins[expected_bins > 0]
    statistic = ((bins - expected_bins) ** 2 / expected_bins).sum()
    freedom = max(len(bins) - 1, 1)
    # Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal.
    deviation = np.sqrt(2 / (9 * freedom))
    assert np.cbrt(statistic / freedom) < 1 - 2 / (9 * freedom) + 3.72 * deviation


# ---- which tokens


DISTRIBUTIONS = {
    "plain": Options(),
    "cold": Options(temperature=0.3),
    "hot": Options(temperature=5.0),
    "top-k": Options(top_k=7),
    "top-k of one": Options(top_k=1),
    "top-k of more than there are": Options(top_k=100_000),
    "top-p": Options(top_p=0.8),
    "top-p, hot": Options(top_p=0.95, temperature=3.0),
    "top-p of nothing": Options(top_p=0.0),
    "min-p": Options(min_p=0.1),
    "min-p, hot": Options(min_p=0.05, temperature=4.0),
    "min-p of all": Options(min_p=1.0),
    "top-p of what top-k left": Options(top_k=6, top_p=0.7),
    "min-p of what top-k left": Options(top_k=9, min_p=0.3),
    "all three": Options(temperature=1.5, top_k=20, top_p=0.9, min_p=0.15),
    "top-p and min-p": Options(temperature=2.0, top_p=0.9, min_p=0.02),
}


@pytest.mark.parametrize("options", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("logits", [FEW, MANY], ids=["few words", "many words"])
def test_distribution(options: Options, logits: Logits) -> None:
    assert_drawn_from(distribution(options, logits), draws(options, logits, 4000))


@pytest.mark.parametrize("options", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_the_kept_set_is_exact(options: Options) -> None:
    """With logits this flat, every kept token comes up."""
    flat = FEW * np.float32(0.2)
    kept = set(np.flatnonzero(distribution(options, flat)).tolist())
    assert set(draws(options, flat, 3000)) == kept


@pytest.mark.parametrize("logits", [FEW, MANY], ids=["few words", "many words"])
@pytest.mark.parametrize("temperature", [0.0, 1e-45, 1e-20, 1e-4])
def test_no_temperature_takes_the_most_likely(logits: Logits, temperature: float) -> None:
    for options in (Options(temperature), Options(temperature, top_k=5), Options(temperature, top_p=0.5, min_p=0.1)):
        assert set(draws(options, logits, 20)) == {int(logits.argmax())}


def test_bias_and_penalties_come_before_temperature_and_the_cuts() -> None:
    history = [3, 3, 8, 15, 20]
    options = Options(
        temperature=1.7,
        top_k=12,
        top_p=0.9,
        min_p=0.05,
        repeat_penalty=1.8,
        presence_penalty=0.3,
        frequency_penalty=0.2,
        repeat_last_n=5,
        bias=((3, 4.0), (30, -2.0), (8, -1.0)),
    )
    expected = distribution(options, adjusted(options, FEW, history))
    samplers = [replace(options, seed=seed).sampler(history) for seed in range(6000)]
    assert_drawn_from(expected, [sampler.sample_from(FEW).token for sampler in samplers])


# ---- bias and penalties, seen through greedy choices


@st.composite
def penalties(draw: st.DrawFn) -> Options:
    return Options(
        temperature=0.0,
        repeat_penalty=draw(st.sampled_from([1.0, 1.1, 1.5, 3.0, 0.7])),
        presence_penalty=draw(st.sampled_from([0.0, 0.5, 2.0, -0.5])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.25, 1.0, -0.25])),
        repeat_last_n=draw(st.sampled_from([-1, 0, 1, 2, 5, 64])),
        bias=tuple(draw(st.lists(st.tuples(st.integers(0, 11), st.floats(-3, 3, width=16)), max_size=4))),
    )


@given(penalties(), st.lists(st.integers(0, 11), max_size=8), st.integers(0, 1000))
@settings(max_examples=150)
def test_greedy_choices_under_bias_and_penalties(options: Options, prompt: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sampler, history = options.sampler(prompt), list(prompt)
    for _ in range(12):
        logits = rng.normal(0, 1, 12).astype(np.float32)
        expected = adjusted(options, logits, history)
        token = sampler.sample_from(logits).token
        assert expected[token] >= expected.max() - 1e-5  # rounding may swap what is equal
        history.append(token)


def test_the_look_back() -> None:
    logits = np.array([1.0, 0.9, 0.8, 0.7], np.float32)
    for repeat_last_n, expected in {0: 0, 1: 1, 2: 1, 3: 2, 4: 3, 100: 3, -1: 3}.items():
        sampler = Options(0.0, presence_penalty=5.0, repeat_last_n=repeat_last_n).sampler([2, 1, 0, 0])
        assert sampler.sample_from(logits).token == expected, repeat_last_n


def test_what_was_chosen_is_penalized_like_the_prompt() -> None:
    logits = np.array([1.0, 0.9, 0.8, 0.7], np.float32)
    sampler = Options(0.0, presence_penalty=5.0, repeat_last_n=3).sampler()
    assert [sampler.sample_from(logits).token for _ in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_the_repeat_penalty_pushes_negative_logits_down_too() -> None:
    logits = np.array([-1.0, -1.2], np.float32)
    assert Options(0.0, repeat_penalty=1.5, repeat_last_n=-1).sampler([0]).sample_from(logits).token == 1
    assert Options(0.0, repeat_penalty=1.5, repeat_last_n=-1).sampler([0, 1]).sample_from(logits).token == 0


def test_frequency_counts_and_presence_does_not() -> None:
    logits = np.array([1.0, 0.0], np.float32)
    history = [0, 0, 0]
    assert Options(0.0, frequency_penalty=0.4, repeat_last_n=-1).sampler(history).sample_from(logits).token == 1
    assert Options(0.0, presence_penalty=0.4, repeat_last_n=-1).sampler(history).sample_from(logits).token == 0


def test_bias_adds_up_and_may_forbid() -> None:
    assert Options(0.0, bias=((4, 50.0), (4, 50.0), (5, 99.0))).sampler().sample_from(FEW).token == 4
    forbidden = tuple((token, -np.inf) for token in range(39))
    for options in (Options(bias=forbidden), Options(bias=forbidden, top_p=0.9), Options(bias=forbidden, top_k=5)):
        assert set(draws(options, FEW, 50)) == {39}


def test_the_logits_of_the_caller_stay_as_they_are() -> None:
    logits = FEW.copy()
    Options(repeat_penalty=2.0, repeat_last_n=-1, bias=((1, 5.0),)).sampler([1, 2, 3]).sample_from(logits, 5)
    assert np.array_equal(logits, FEW)


# ---- seeds


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_a_seed_repeats_its_draws(seed: int) -> None:
    first = draws(Options(seed=seed), MANY, 50)
    assert draws(Options(seed=seed), MANY, 50) == first
    assert len(set(first)) > 10


def test_seeds_differ() -> None:
    sequences = {tuple(draws(Options(seed=seed), MANY, 20)) for seed in (0, 1, 2, 2**32, 2**63, 2**64 - 1)}
    assert len(sequences) == 6


@pytest.mark.parametrize("n_before", [0, 1, 7])
def test_draws_of_neighbouring_seeds_are_independent(n_before: int) -> None:
    """Servers count seeds up, and most requests draw few tokens."""
    tokens = [draws(Options(seed=seed), FEW, n_before + 1)[-1] for seed in range(5000)]
    assert_drawn_from(distribution(Options(), FEW), tokens)


def test_one_draw_says_nothing_of_the_next() -> None:
    even = np.zeros(16, np.float32)
    tokens = np.array(draws(Options(), even, 8000))
    for lag in (1, 2, 3):
        assert_drawn_from(np.full(256, 1 / 256), (tokens[lag:] * 16 + tokens[:-lag]).tolist())


def test_the_draw_depends_on_seed_and_number_only() -> None:
    quiet, talkative = Options(seed=3).sampler(), Options(seed=3).sampler([1, 2, 3])
    for _ in range(20):
        assert quiet.sample_from(MANY).token == talkative.sample_from(MANY, 10).token


# ---- log-probabilities


def log_softmax(logits: Logits) -> Probabilities:
    shifted = logits.astype(np.float64) - logits.max()
    result: Probabilities = shifted - np.log(np.exp(shifted).sum())
    return result


@pytest.mark.parametrize("logits", [FEW, MANY, MANY * 20, MANY + 1000], ids=["few", "many", "sharp", "shifted"])
@pytest.mark.parametrize("n_alternatives", [0, 1, 5, 20])
def test_log_probabilities_are_the_models_own(logits: Logits, n_alternatives: int) -> None:
    options = Options(temperature=3.0, top_k=4, repeat_penalty=2.0, repeat_last_n=-1, bias=((0, 3.0),))
    choice = options.sampler([1, 2, 3]).sample_from(logits, n_alternatives)
    expected = log_softmax(logits)
    close = {"rel": 1e-5, "abs": 2e-6 * float(np.abs(logits).max())}
    assert choice.logprob == pytest.approx(expected[choice.token], **close)
    best = np.argsort(-logits, kind="stable")[:n_alternatives]
    assert [token for token, _ in choice.alternatives] == best.tolist()
    assert [logprob for _, logprob in choice.alternatives] == pytest.approx(expected[best].tolist(), **close)


def test_log_probabilities_of_all_tokens() -> None:
    choice = Options(0.0).sampler().sample_from(FEW, 1000)
    assert len(choice.alternatives) == len(FEW)
    assert sum(np.exp(logprob) for _, logprob in choice.alternatives) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("isa", _core.available_isas())
def test_the_same_on_every_instruction_set(isa: str) -> None:
    model = BareModel(vocab_size=300)
    decoder = bare_decoder(model, isa=isa)
    logits = read(decoder, [1, 2, 3])
    for options in (Options(0.0), Options(1.0), Options(2.0, top_p=0.9), Options(2.0, top_k=20, min_p=0.1)):
        sampler, same = options.sampler(), options.sampler()
        for row in (2, 0, 1):
            ours, theirs = sampler.sample(decoder, row, 3), same.sample_from(logits[row], 3)
            assert ours.token == theirs.token
            assert ours.logprob == pytest.approx(log_softmax(logits[row])[ours.token], rel=1e-5, abs=1e-6)
            assert [token for token, _ in ours.alternatives] == [token for token, _ in theirs.alternatives]


# ---- extremes


def edge(**values: float) -> Logits:
    """Twenty logits of ``rest``, but for ``at_7``."""
    logits = np.full(20, values["rest"], np.float32)
    logits[7] = values.get("at_7", values["rest"])
    return logits


EXTREMES: dict[str, tuple[Logits, set[int]]] = {
    "all equal": (edge(rest=0.0), set(range(20))),
    "all equal and huge": (edge(rest=3e38), set(range(20))),
    "all equal and low": (edge(rest=-3e38), set(range(20))),
    "one huge": (edge(rest=0.0, at_7=3e38), {7}),
    "as far apart as floats are": (edge(rest=-3e38, at_7=3e38), {7}),
    "one possible": (edge(rest=-np.inf, at_7=-5.0), {7}),
    "one impossible": (edge(rest=1.0, at_7=-np.inf), set(range(20)) - {7}),
    "one word": (np.zeros(1, np.float32), {0}),
}


@pytest.mark.parametrize(("logits", "possible"), EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize(
    "options", [Options(), Options(top_p=0.999), Options(top_k=50), Options(min_p=0.01, temperature=100.0)], ids=str
)
def test_extremes(logits: Logits, possible: set[int], options: Options) -> None:
    sampler = options.sampler()
    choices: list[Any] = [sampler.sample_from(logits, 3) for _ in range(400)]
    assert {choice.token for choice in choices} == possible
    magnitude = float(np.abs(logits[np.isfinite(logits)]).max())
    for choice in choices:
        assert choice.logprob == pytest.approx(-np.log(len(possible)), abs=1e-5 + 1e-6 * magnitude)
        assert not any(np.isnan(logprob) for _, logprob in choice.alternatives)


def test_equal_logits_are_cut_by_their_ids() -> None:
    equal = np.zeros(1000, np.float32)
    assert Options(0.0).sampler().sample_from(equal, 3).alternatives[2][0] == 2
    assert set(draws(Options(top_k=3), equal, 200)) == {0, 1, 2}
    assert set(draws(Options(top_p=0.0025), equal, 200)) == {0, 1, 2}
    assert set(draws(Options(min_p=1.0), equal, 20_000)) == set(range(1000))


# ---- masks


def bits(allowed: Sequence[int], n: int) -> npt.NDArray[np.uint32]:
    """One bit per token, set for ``allowed``."""
    flags = np.zeros(-(-n // 32) * 32, np.uint8)
    flags[list(allowed)] = 1
    return np.packbits(flags, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("options", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("logits", [FEW, MANY], ids=["few words", "many words"])
def test_a_mask_comes_before_everything_else(options: Options, logits: Logits) -> None:
    allowed = np.flatnonzero(np.random.default_rng(1).random(len(logits)) < 0.5)
    masked = np.full_like(logits, -np.inf)
    masked[allowed] = logits[allowed]
    sampler, mask = options.sampler(), bits(allowed.tolist(), len(logits))
    drawn = [sampler.sample_from(logits, -1, mask).token for _ in range(3000)]
    assert_drawn_from(distribution(options, masked), drawn)


@given(st.sets(st.integers(0, 39), min_size=1), st.integers(-2, 2))
@settings(max_examples=100)
def test_only_what_a_mask_allows_is_drawn(allowed: set[int], extra_words: int) -> None:
    mask = bits(sorted(allowed), 64)[: max(2 + extra_words, 1)]
    mask = np.concatenate([mask, np.full(max(extra_words, 0), 2**32 - 1, np.uint32)])
    allowed = {token for token in allowed if token < 32 * len(mask)}
    everything = Options(temperature=9.0, bias=tuple((token, 50.0) for token in range(0, 40, 2)), repeat_last_n=-1)
    for options in (everything, replace(everything, temperature=0.0), replace(everything, top_p=0.99)):
        sampler = options.sampler([1, 2, 3])
        if allowed:
            assert {sampler.sample_from(FEW, 2, mask).token for _ in range(30)} <= allowed
        else:
            with pytest.raises(RuntimeError, match="no token is allowed"):
                sampler.sample_from(FEW, 2, mask)


def test_a_mask_leaves_the_reported_distribution_and_the_draws_alone() -> None:
    free, held = Options(seed=4).sampler(), Options(seed=4).sampler()
    every, odd = bits(range(3000), 3000), bits(range(1, 3000, 2), 3000)
    for _ in range(10):
        choice = held.sample_from(MANY, 3, odd)
        assert choice.token % 2
        assert choice.logprob == pytest.approx(log_softmax(MANY)[choice.token], rel=1e-5)
        assert choice.alternatives == free.sample_from(MANY, 3).alternatives
    assert held.sample_from(MANY, -1, every).token == free.sample_from(MANY).token


some_options = st.builds(
    Options,
    temperature=st.sampled_from([0.0, 0.01, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 2, 7, 40, 5000]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    repeat_last_n=st.sampled_from([0, 4, -1]),
    seed=st.integers(0, 2**64 - 1),
    bias=st.sampled_from([(), ((3, 4.0), (7, -np.inf)), ((0, -1.0),)]),
)


@given(some_options, st.sampled_from([40, 500, 3000]), st.floats(0, 20), st.floats(0.01, 1), st.integers(0, 2**32))
@settings(max_examples=300)
def test_what_is_foreseen_is_drawn(options: Options, n: int, spread: float, share: float, seed: int) -> None:
    """Asking for the one token first changes no draw, also not the next, and no report."""
    rng = np.random.default_rng(seed)
    asking, drawing = options.sampler([1, 3, 3]), options.sampler([1, 3, 3])
    for _ in range(12):
        logits = np.round(rng.normal(0, spread, n)).astype(np.float32)  # some of them equal
        allowed = np.flatnonzero(rng.random(n) < share)
        if len(set(allowed.tolist()) - {7}) == 0:
            continue
        mask = bits(allowed.tolist(), n)
        token = asking.foresee_from(logits)
        choice = asking.take_from(logits, token, 2) if token in allowed else asking.sample_from(logits, 2, mask)
        expected = drawing.sample_from(logits, 2, mask)
        assert (choice.token, choice.logprob, choice.alternatives) == (
            expected.token,
            expected.logprob,
            expected.alternatives,
        )


def test_the_likeliest_token_is_foreseen_as_often_as_it_can_be() -> None:
    """Always without temperature; else about as often as it is drawn when nothing is forbidden."""
    logits = np.array([0.0, 3.0, 0.0, 1.0], np.float32)
    assert Options(temperature=0.0).sampler().foresee_from(logits) == 1
    sampler, n_foreseen, n_drawn = Options(top_k=3, seed=1).sampler(), 0, 0
    for _ in range(4000):
        n_foreseen += sampler.foresee_from(logits) == 1
        n_drawn += sampler.sample_from(logits).token == 1
    assert n_drawn - 40 <= n_foreseen <= n_drawn < 4000


def test_nothing_is_foreseen_where_tokens_are_drawn_in_the_order_of_their_ids() -> None:
    assert Options().sampler().foresee_from(np.array([9.0, 0.0], np.float32)) == -1


def test_a_mask_does_not_hide_damaged_logits() -> None:
    with pytest.raises(RuntimeError, match="not finite"):
        Options(top_k=3).sampler().foresee_from(np.full(40, np.nan, np.float32))
    with pytest.raises(RuntimeError, match="not finite"):
        Options().sampler().sample_from(np.full(40, np.nan, np.float32), -1, bits([3], 40))


@pytest.mark.parametrize("options", [Options(top_p=0.9), Options(top_p=0.5, min_p=0.2), Options(min_p=0.3)], ids=str)
@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.3, 1.0, 3.0])
def test_the_kept_set_of_a_flat_distribution_is_exact(options: Options, spread: float) -> None:
    """More tokens are kept than are sorted at first."""
    logits = np.random.default_rng(2).normal(0, spread, 500).astype(np.float32)
    kept = set(np.flatnonzero(distribution(options, logits)).tolist())
    drawn = set(draws(options, logits, 12_000))
    assert drawn <= kept
    assert len(kept) - len(drawn) <= (5 if spread < 3 else 100)
