"""Tiny models of one tokenizer, in more and less precise files, and settings with a home of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.core.settings import Settings, load_settings


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights as F32, Q8_0 and Q4_0."""
    from madang.formats.tensors import TensorType
    from tests.parity.checkpoints import TinyModel, write_checkpoint

    folder, model = tmp_path_factory.mktemp("tiny"), TinyModel("evaluated")
    whole = write_checkpoint(model, folder / "whole.gguf")
    files = {"whole": whole.path}
    for tensor_type in (TensorType.Q8_0, TensorType.Q4_0):
        path = folder / f"{tensor_type.name}.gguf"
        write_checkpoint(model, path, tensor_type, weights=whole.weights)
        files[tensor_type.name] = path
    return files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"home": str(tmp_path / "home"), "threads": 1}, {})
