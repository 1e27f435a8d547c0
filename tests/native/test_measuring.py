"""A profile of this machine, of one type."""

from __future__ import annotations

from madang.formats.tensors import TensorType
from madang.hardware import Machine
from madang.native.measuring import measure_machine


def test_every_figure_is_there() -> None:
    profile = measure_machine(Machine("Linux", "x86_64", cpu="Some CPU"), threads=2, types=[TensorType.Q8_0])
    assert (profile.threads, profile.cpu, list(profile.types)) == (2, "Some CPU", [TensorType.Q8_0])
    speed = profile.types[TensorType.Q8_0]
    assert min(speed.decode_bytes_per_s, speed.multiplies_per_s, profile.row_elements_per_s) > 0
    assert list(profile.caches) == ["f16", "int8"]
    for cache in profile.caches.values():
        assert min(cache.decode_bytes_per_s, cache.decode_pairs_per_s, cache.prompt_pairs_per_s) > 0
    assert profile.memory_bytes_per_s > 0
    assert profile.cache_bytes >= 0
    assert profile.step_s >= 0
    assert profile.layer_s >= 0
    assert all(0 < share <= 1 for share in profile.one_thread)
    assert 0 <= profile.disturbed_share <= 1
