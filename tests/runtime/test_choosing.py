"""Which engine runs a model, with the reason, and what is said when none can."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, UnsupportedModel
from madang.engines import EngineEntry, find_engine
from madang.models import ModelFiles
from madang.runtime.choosing import choose_for
from tests.formats.malformed.safetensors_files import VALID

NATIVE = find_engine("native")
OTHER = EngineEntry("other", "json:loads", formats=("huggingface",))
MLX = EngineEntry("mlx", "json:loads", formats=("huggingface",))
ABSENT = EngineEntry(
    "absent", "absent:load", formats=("huggingface",), modules=("absent_engine",), install="pip install absent"
)
UNKNOWN = {"model_type": "mamba"}


def folder_of(path: Path, config: dict[str, object]) -> ModelFiles:
    path.mkdir()
    (path / "model.safetensors").write_bytes(VALID)
    (path / "config.json").write_text(json.dumps(config))
    return ModelFiles("it", "huggingface", path, 1, "", datetime(2026, 1, 1, tzinfo=UTC))


def test_the_first_engine_is_ours(starter_gguf: Path) -> None:
    files = ModelFiles("it", "gguf", starter_gguf, 1, "", datetime(2026, 1, 1, tzinfo=UTC))
    chosen = choose_for(files, None)
    assert (chosen.choice.entry, chosen.choice.reason) == (NATIVE, "first installed engine that reads gguf files")
    assert chosen.description is not None


def test_what_ours_does_not_know_goes_to_the_next_one_that_is_installed(tmp_path: Path) -> None:
    chosen = choose_for(folder_of(tmp_path / "it", UNKNOWN), None, (NATIVE, ABSENT, OTHER))
    assert chosen.choice.entry is OTHER
    assert chosen.choice.reason.startswith("the native engine does not run")
    assert chosen.description is None


def test_an_engine_that_would_run_it_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="The native engine does not run") as caught:
        choose_for(folder_of(tmp_path / "it", UNKNOWN), None, (NATIVE, ABSENT))
    assert "pip install absent" in (caught.value.hint or "")


def test_where_nothing_else_reads_the_format_ours_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="state-space"):
        choose_for(folder_of(tmp_path / "it", UNKNOWN), None, (NATIVE,))


def test_an_engine_that_was_asked_for_is_not_replaced(tmp_path: Path) -> None:
    files = folder_of(tmp_path / "it", UNKNOWN)
    with pytest.raises(UnsupportedModel):
        choose_for(files, "native", (NATIVE, OTHER))
    assert choose_for(files, "other", (NATIVE, OTHER)).choice.reason == "asked for by name"
    with pytest.raises(InvalidRequest):
        choose_for(ModelFiles("it", "gguf", files.path, 1, "", files.modified), "other", (NATIVE, OTHER))


@pytest.mark.parametrize(
    ("more", "engine"),
    [({"quantization": {"group_size": 64, "bits": 4}}, "mlx"), ({"quantization": 4}, "other"), ({}, "other")],
)
def test_what_mlx_quantized_goes_to_mlx(tmp_path: Path, more: dict[str, object], engine: str) -> None:
    files = folder_of(tmp_path / "it", {**UNKNOWN, **more})
    assert choose_for(files, None, (NATIVE, OTHER, MLX)).choice.entry.name == engine
