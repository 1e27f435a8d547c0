"""What a model will take, against what files of it are known to weigh."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from madang.formats.tensors import TensorType
from madang.hardware import Bandwidth, kv_cache_bytes, packed_weights_bytes
from madang.hardware.profile import CacheSpeed, MachineProfile, TypeSpeed
from madang.models import load_catalog
from madang.runtime.sizing import Sized, bandwidth_speed, forecast_speed, read_bytes, size_of

ENTRIES = load_catalog().entries
VOCABULARY_BYTES = 12_000_000  # at most, of these: what a file has beside its tensors


def sized(name: str, type_name: str) -> Sized:
    found = size_of(ENTRIES[name], type_name)
    assert found is not None
    return found


def described(size: Sized) -> ModelDescription:
    assert size.description is not None
    return size.description


@pytest.mark.parametrize(
    ("name", "type_name", "file_bytes"),
    [
        ("smollm2:135m", "Q4_1", 98_362_432),
        ("tinyllama:1.1b", "Q4_K_M", 668_788_096),
        ("llama3.2:1b", "Q4_K_M", 807_694_464),
        ("mistral:7b", "Q4_K_M", 4_368_439_584),
        ("midm:2.0-mini", "BF16", 4_617_053_184),
    ],
)
def test_files_weigh_what_was_counted(name: str, type_name: str, file_bytes: int) -> None:
    assert 0 < file_bytes - sized(name, type_name).file_bytes < VOCABULARY_BYTES


def test_the_starter_takes_what_its_file_says(starter_gguf: Path) -> None:
    """The catalog's arithmetic on the type by name, against the same on the file that is here."""
    here = describe_gguf(read_gguf(starter_gguf))
    size = sized("smollm2:135m", "Q4_1")
    assert size.weights_bytes == packed_weights_bytes(here.tensors.values())
    assert described(size).spec.n_layers == here.spec.n_layers
    context = 2048
    assert size.memory_bytes(context) - size.memory_bytes(0) == kv_cache_bytes(here.spec, context)


def test_the_context_within_some_memory_fits_and_the_next_page_does_not() -> None:
    size = sized("mistral:7b", "Q4_K_M")
    most = size.context_within(8_000_000_000)
    assert most is not None
    assert size.memory_bytes(most) <= 8_000_000_000 < size.memory_bytes(most + 16)
    assert size.context_within(1_000_000_000) == 0


def test_without_a_shape_it_is_an_estimate() -> None:
    entry = ENTRIES["ax:4.0-light"]
    assert entry.shape is None
    size = sized("ax:4.0-light", "Q4_K_M")
    assert size.description is None
    assert size.context_within(10**12) is None
    assert 4.0e9 < size.file_bytes < 4.8e9
    assert size_of(ENTRIES["gemma4:e2b"], "Q4_K_M") is None  # not even how many parameters


def test_a_token_reads_a_row_of_embeddings_and_only_its_experts() -> None:
    tied, untied = sized("qwen3:4b", "Q8_0"), sized("qwen3:8b", "Q8_0")
    assert read_bytes(described(tied)) == tied.weights_bytes
    assert read_bytes(described(untied)) < 0.95 * untied.weights_bytes
    mixture = sized("mixtral:8x7b", "Q8_0")
    assert 0.26 < read_bytes(described(mixture)) / mixture.weights_bytes < 0.29  # 12.9 of 46.7 billion


def test_speed_is_bandwidth_over_bytes() -> None:
    description = described(sized("qwen3:4b", "Q4_K_M"))
    speed = bandwidth_speed(Bandwidth(20e9, 20e9, 2, 1 << 20))
    near, far = speed(description, 16), speed(description, 32_768)
    assert near is not None
    assert far is not None
    assert near == pytest.approx(20e9 / (read_bytes(description) + kv_cache_bytes(description.spec, 16)))
    assert far < near
    assert bandwidth_speed(None)(description, 16) is None
    encoder = described(sized("bge-m3:568m", "Q8_0"))
    assert speed(encoder, 512) is None


def test_a_measured_machine_is_forecast() -> None:
    description, encoder = described(sized("qwen3:4b", "Q8_0")), described(sized("bge-m3:568m", "Q8_0"))
    types = {TensorType.Q8_0: TypeSpeed(20e9, 200e9)}
    caches = {"f16": CacheSpeed(10e9, 40e9, 10e9), "int8": CacheSpeed(5e9, 40e9, 10e9)}
    profile = MachineProfile(
        "2026-11-21T10:00:00+00:00", "0", None, "avx2", 4, types, 20e9, 0, caches, 1e-3, 1e-4, 1e11, (0.5, 0.25)
    )
    speed, limit = forecast_speed(profile), bandwidth_speed(Bandwidth(20e9, 20e9, 4, 1 << 20))
    near, most = speed(description, 16), limit(description, 16)
    assert near is not None and most is not None
    assert 0.5 * most < near < most  # steps and layers take their time, too
    assert speed(encoder, 16) is None
