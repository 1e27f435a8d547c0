"""What tests of several rooms need: the starter model and the shared data, each got once or skipped in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from madang.core.errors import NotEnoughDisk, SourceError

# How long an example takes says how busy the machine is.
settings.register_profile("madang")
settings.load_profile("madang")

ROOT = Path(__file__).resolve().parent.parent
STARTER = "smollm2:135m"
EMBEDDER = "all-minilm:l6"


def pulled(name: str) -> Path:
    """A model of the catalog, fetched into ``MADANG_TEST_CACHE`` or ``.cache/test-models`` if it is not there."""
    from madang.models import Store, parse_reference, pull

    cache = Path(os.environ.get("MADANG_TEST_CACHE", ROOT / ".cache" / "test-models"))
    try:
        return pull(parse_reference(name), Store(cache)).path
    except (SourceError, NotEnoughDisk) as error:
        pytest.skip(f"{name} cannot be fetched: {error.message}")


@pytest.fixture(scope="session")
def starter_gguf() -> Path:
    """The starter model's file."""
    return pulled(STARTER)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of the small embedding model."""
    return pulled(EMBEDDER)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is not part of the package: ``MADANG_TEST_DATA``, or ``../shared/data``."""
    folder = Path(os.environ.get("MADANG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set MADANG_TEST_DATA")
    return folder
