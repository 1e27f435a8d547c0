"""Forecasts on an invented machine, whose rates make the sums easy to check; and what is learned from errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from madang.core.writing import write_atomically
from madang.formats.spec import DecoderSpec, Experts, ModelDescription
from madang.formats.tensors import TensorInfo, TensorType
from madang.hardware import (
    CacheSpeed,
    MachineProfile,
    TypeSpeed,
    forecast_decode,
    forecast_prompt,
    kv_cache_bytes,
    packed_weights_bytes,
    predict_decode,
    read_profile,
    save_profile,
    work_of,
)
from madang.hardware.corrections import (
    BOUNDS,
    FEWEST_OBSERVATIONS,
    MOST_OBSERVATIONS,
    learn,
    read_corrections,
    read_observed,
)
from madang.hardware.forecast import Seen
from madang.hardware.profile import MACHINE_FILE, effective_cache_bytes, held_share
from madang.hardware.seed_table import seed_table

Q4, Q8, F32 = TensorType.Q4_0, TensorType.Q8_0, TensorType.F32
PROFILE = MachineProfile(
    measured_at="2026-11-21T10:00:00+00:00",
    version="0",
    cpu=None,
    isa="avx2",
    threads=4,
    types={Q4: TypeSpeed(10e9, 100e9), Q8: TypeSpeed(20e9, 200e9)},
    memory_bytes_per_s=15e9,
    cache_bytes=0,
    caches={"f16": CacheSpeed(10e9, 40e9, 10e9), "int8": CacheSpeed(5e9, 40e9, 10e9)},
    step_s=1e-3,
    layer_s=1e-4,
    row_elements_per_s=1e9,
    one_thread=(0.5, 0.25),
)
SPEC = DecoderSpec(
    architecture="llama",
    n_layers=2,
    n_embd=256,
    n_heads=4,
    n_kv_heads=2,
    head_dim=64,
    n_ff=512,
    vocab_size=1024,
    context_tokens=4096,
    norm_epsilon=1e-5,
    ropes=(None, None),
    window_tokens=(0, 0),
)


def tensor(kind: TensorType, *shape: int) -> TensorInfo:
    return TensorInfo("", kind, shape, Path(), 0)


def model(spec: DecoderSpec = SPEC, **extra: TensorInfo) -> ModelDescription:
    tensors = {"token_embedding": tensor(Q8, 1024, 256), "output_norm": tensor(F32, 256)}
    for layer in range(2):
        tensors[f"{layer}.query"] = tensor(Q4, 256, 256)
        tensors[f"{layer}.ffn_up"] = tensor(Q4, 512, 256)
    return ModelDescription(spec, tensors | extra)


def test_decoding_is_what_is_read_and_waited_for() -> None:
    n_bytes = {Q4: 10_000_000, Q8: 15_000_000}  # of Q8, memory's 15 GB/s are the limit
    assert predict_decode(PROFILE, n_bytes, n_layers=10) == pytest.approx(1 / (1e-3 + 1e-3 + 1e-3 + 1e-3))
    seen = Seen(kv_bytes=20_000_000, pairs=40_000_000)
    slower = predict_decode(PROFILE, n_bytes, n_layers=10, seen=seen)
    assert slower == pytest.approx(1 / (4e-3 + 2e-3 + 1e-3))
    assert predict_decode(PROFILE, n_bytes, n_layers=10, threads=1) == pytest.approx(1 / (4e-3 + 2e-3))
    # All four threads wait for the one that takes the activations.
    assert predict_decode(PROFILE, n_bytes, n_layers=10, elements=250_000) == pytest.approx(1 / (4e-3 + 1e-3))


def test_what_caches_hold_is_not_read_from_memory() -> None:
    n_bytes = {Q8: 20_000_000}
    times = [
        1 / predict_decode(replace(PROFILE, cache_bytes=cache, step_s=0), n_bytes, n_layers=0)
        for cache in (0, 8e6, 32e6)
    ]
    assert times[0] == pytest.approx(20e6 / 15e9)
    assert times[0] > times[1] > times[2] == pytest.approx(20e6 / 20e9)  # what the kernel can do
    deep = replace(PROFILE, cache_bytes=32e6, step_s=0)
    seen = Seen(kv_bytes=100_000_000)  # drives the weights out
    without = seen.kv_bytes / PROFILE.caches["f16"].decode_bytes_per_s
    assert 1 / predict_decode(deep, n_bytes, n_layers=0, seen=seen) - without > times[2] * 1.1


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.8])
def test_a_cache_is_known_from_what_it_held(share: float) -> None:
    assert held_share(80e6, effective_cache_bytes(80e6, share)) == pytest.approx(share, abs=1e-4)


def test_types_that_were_not_measured_take_the_speed_of_the_most_similar() -> None:
    assert PROFILE.type_speed(TensorType.IQ4_NL) == PROFILE.types[Q4]
    assert PROFILE.type_speed(TensorType.F16) == PROFILE.types[Q8]


def test_tied_embeddings_are_read_for_the_logits_and_others_are_not() -> None:
    tied, untied = work_of(model()), work_of(model(output=tensor(Q4, 1024, 256)))
    assert list(tied.output) == [Q8]
    assert list(untied.output) == [Q4]
    assert tied.output[Q8].n_bytes == packed_weights_bytes([tensor(Q8, 1024, 256)])
    assert tied.layers == untied.layers
    assert tied.layers[Q4].n_weights == 2 * (256 + 512) * 256


def test_only_the_experts_that_a_token_takes_count() -> None:
    spec = replace(SPEC, experts=Experts(4, 1))
    experts = {f"0.expert.{number}.ffn_up": tensor(Q8, 512, 256) for number in range(4)}
    assert work_of(model(spec, **experts)).layers[Q8].n_weights == 512 * 256


def test_depth_and_prompts_cost_what_they_see() -> None:
    work = work_of(model())
    shallow, deep = (1 / forecast_decode(PROFILE, work, depth) for depth in (0, 1600))
    pairs = SPEC.n_layers * SPEC.n_heads * SPEC.head_dim
    assert deep - shallow == pytest.approx(kv_cache_bytes(SPEC, 1600) / 10e9 + 1600 * pairs / 40e9)
    windowed = replace(work, spec=replace(SPEC, window_tokens=(16, 16)))
    assert 1 / forecast_decode(PROFILE, windowed, 1600) - shallow == pytest.approx(
        kv_cache_bytes(SPEC, 16) / 10e9 + 16 * pairs / 40e9
    )
    short, long = (n / forecast_prompt(PROFILE, work, n) for n in (256, 2560))
    assert long > 10 * short  # attention grows with the square
    linear = [n / forecast_prompt(PROFILE, windowed, n) for n in (256, 2560)]
    assert linear[1] == pytest.approx(10 * linear[0], rel=0.01)
    assert forecast_prompt(PROFILE, work, 512, threads=1) < forecast_prompt(PROFILE, work, 512, threads=2)


def test_a_profile_is_kept_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert read_profile(tmp_path) is None
    save_profile(tmp_path, PROFILE)
    assert read_profile(tmp_path) == PROFILE
    path = tmp_path / MACHINE_FILE
    for damaged in (
        "",
        "[]",
        '{"format": 1, "profile": {"types": 3}}',
        path.read_text().replace('"format": 1', '"x": 1'),
    ):
        path.write_text(damaged)
        assert read_profile(tmp_path) is None
    save_profile(tmp_path, PROFILE)
    assert read_profile(tmp_path) == PROFILE


def test_corrections_are_medians_within_bounds(tmp_path: Path) -> None:
    save_profile(tmp_path, PROFILE)
    kind = "native/llama/Q4_0"
    for model, ratio in (("a", 0.8), ("a", 0.8), ("b", 50.0), ("b", 0.8), ("c", 0.8)):
        learn(tmp_path, model, kind, {"decode": ratio})
    learn(tmp_path, "d", "native/llama/Q8_0", {"decode": 0.7})
    found = read_corrections(tmp_path, kind)
    observed = read_observed(tmp_path)
    assert list(observed) == ["a", "b", "c", "d"]
    assert observed["d"].learned["decode"].error == pytest.approx(1 / 0.7 - 1, abs=1e-3)
    assert found["decode"].factor == 0.8
    assert found["decode"].error == pytest.approx(0.25)
    assert found["prompt"].factor == 1
    assert found["prompt"].error is None
    for _ in range(MOST_OBSERVATIONS):
        learn(tmp_path, "a", kind, {"decode": 9.0})
    assert len(read_observed(tmp_path)["a"].learned["decode"].ratios) == MOST_OBSERVATIONS
    assert read_corrections(tmp_path, kind)["decode"].factor == BOUNDS[1]
    learn(tmp_path, "a", "native/qwen3/Q4_0", {"decode": 1.1})  # another model of the name
    assert read_observed(tmp_path)["a"].learned["decode"].ratios == (1.1,)
    assert read_profile(tmp_path) == PROFILE


def test_a_few_observations_correct_nothing(tmp_path: Path) -> None:
    for _ in range(FEWEST_OBSERVATIONS - 1):
        learn(tmp_path, "model", "a/b/c", {"prompt": 0.5})
    assert read_corrections(tmp_path, "a/b/c")["prompt"].factor == 1
    learn(tmp_path, "model", "a/b/c", {"prompt": 0.5})
    assert read_corrections(tmp_path, "a/b/c")["prompt"].factor == 0.5


_LEARN = """
import sys
from pathlib import Path
from madang.hardware.corrections import learn
for _ in range(10):
    learn(Path(sys.argv[1]), sys.argv[2], "a/b/c", {"decode": 1.5})
"""


def test_processes_that_learn_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    save_profile(tmp_path, PROFILE)
    models = ["one", "two", "three"]
    processes = [subprocess.Popen([sys.executable, "-c", _LEARN, str(tmp_path), model]) for model in models]
    assert [process.wait() for process in processes] == [0, 0, 0]
    observed = read_observed(tmp_path)
    assert {model: len(observed[model].learned["decode"].ratios) for model in observed} == dict.fromkeys(models, 10)
    assert read_profile(tmp_path) == PROFILE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machine.json", "machine.lock"]


def test_what_cannot_be_understood_counts_as_not_learned(tmp_path: Path) -> None:
    write_atomically(
        tmp_path / MACHINE_FILE,
        '{"format": 1, "observed": {"a": 3, "b": {"kind": "k", "decode": ["x", 2, -1]}, "c": {}}}',
    )
    assert {model: one.learned["decode"].ratios for model, one in read_observed(tmp_path).items()} == {"b": (2.0,)}
    learn(tmp_path, "a", "k", {"decode": 1.0})
    assert set(read_observed(tmp_path)) == {"a", "b"}


def test_the_seed_table_has_the_published_sizes() -> None:
    rows = {(row.size, row.precision): row for row in seed_table(4096)}
    assert [rows[size, "FP16"].parameters for size in ("1B", "3B", "7B", "13B")] == [
        1_235_814_400,
        3_212_749_824,
        6_738_415_616,
        13_015_864_320,
    ]
    assert rows["7B", "FP16"].kv_cache_bytes == 2 * 2 * 32 * 4096 * 4096
    assert rows["7B", "FP32"].weights_bytes == 4 * 6_738_415_616
    assert rows["7B", "INT8"].weights_bytes == 6_738_149_376 * 34 // 32 + 4 * 266_240
    assert rows["13B", "4-bit"].total_bytes < rows["13B", "INT8"].total_bytes < rows["13B", "FP16"].total_bytes
