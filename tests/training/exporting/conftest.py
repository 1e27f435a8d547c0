"""One trained tiny model, and what exports of it are compared with."""

from __future__ import annotations

import pytest

from madang.training.exporting import Reference, Trained
from tests.training.exporting.tiny import write_trained


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A LoRA of a tiny model with a tied head."""
    return write_trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def reference(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Its trained side."""
    return Reference(trained, tmp_path_factory.mktemp("reference"))
