from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.models import Store
from tests.models.standins import Hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    server = hub.start()
    yield hub
    server.shutdown()
    server.server_close()
