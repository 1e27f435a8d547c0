"""What the catalog's models would be on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from madang.formats.tensors import TensorType
from madang.hardware import CacheSpeed, MachineProfile, TypeSpeed, save_profile
from madang.models import load_catalog
from madang.runtime.outlook import UNMEASURED, Outlook
from madang.runtime.recommending import Wish, recommend
from madang.runtime.sizing import bandwidth_speed

ENTRIES = load_catalog().entries
PROFILE = MachineProfile(
    measured_at="2026-01-01T00:00:00+00:00",
    version="0",
    cpu=None,
    isa="portable",
    threads=2,
    types={TensorType.Q4_K: TypeSpeed(20e9, 400e9)},
    memory_bytes_per_s=20e9,
    cache_bytes=32e6,
    caches=dict.fromkeys(("f16", "int8"), CacheSpeed(10e9, 40e9, 10e9)),
    step_s=1e-4,
    layer_s=1e-5,
    row_elements_per_s=1e9,
)


def test_what_follows_from_a_shape_is_exact(tmp_path: Path) -> None:
    outlook = Outlook(tmp_path)
    found = outlook.forecast(ENTRIES["qwen3:0.6b"])
    assert found.is_exact and found.memory_bytes is not None and found.type_name is not None
    assert found.tokens_per_s is None and outlook.speed_is == UNMEASURED
    assert found.memory_bytes > (ENTRIES["qwen3:0.6b"].parameters or 0) / 2
    assert outlook.forecast(ENTRIES["qwen3:0.6b"]) == found


def test_what_is_larger_than_the_machine_does_not_fit(tmp_path: Path) -> None:
    vast = replace(ENTRIES["llama2:7b"], shape=None, parameters=10**15)
    assert Outlook(tmp_path).forecast(vast).fits == "no"
    assert Outlook(tmp_path).forecast(ENTRIES["smollm2:135m"]).fits in ("yes", "tight")


def test_every_model_of_the_catalog_has_a_forecast(tmp_path: Path) -> None:
    outlook = Outlook(tmp_path)
    found = {name: outlook.forecast(entry) for name, entry in ENTRIES.items()}
    assert all(one.fits is not None for name, one in found.items() if ENTRIES[name].parameters is not None)
    assert all((one.memory_bytes is None) == (one.fits is None) for one in found.values())


def test_a_machine_that_was_measured_has_speeds(tmp_path: Path) -> None:
    outlook = Outlook(tmp_path)
    assert outlook.forecast(ENTRIES["qwen3:0.6b"]).tokens_per_s is None
    save_profile(tmp_path, PROFILE)
    small, large = (outlook.forecast(ENTRIES[name]).tokens_per_s for name in ("qwen3:0.6b", "qwen3:4b"))
    assert small is not None and large is not None and small > large > 0
    assert "2026-01-01" in outlook.speed_is
    assert outlook.forecast(ENTRIES["all-minilm:l6"]).tokens_per_s is None  # it writes nothing


@pytest.mark.parametrize("gigabytes", [2, 8])
def test_what_is_recommended_is_the_same_as_without_keeping_sizes(tmp_path: Path, gigabytes: int) -> None:
    wish = Wish("korean", gigabytes * 10**9)
    outlook = Outlook(tmp_path)
    for _ in range(2):
        kept = outlook.recommend(wish)
        fresh = recommend(ENTRIES.values(), wish, bandwidth_speed(None))
        names = [[(one.entry.reference, one.type_name) for one in answer.found] for answer in (kept, fresh)]
        assert names[0] == names[1] != []
