"""Every family, from its folder and from its GGUF file, against ``transformers`` in float32 with eager attention."""

from __future__ import annotations

import numpy as np
import pytest

from madang.formats.families import describe_folder, describe_gguf
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from tests.parity.canonical import Canonical
from tests.parity.families import FAMILIES, SWITCH, WINDOW, Built, Family, build
from tests.parity.references import torch

LENGTHS = (1, 2, WINDOW - 1, WINDOW, WINDOW + 1, SWITCH, SWITCH + 1, 100)
TOKENS = np.random.default_rng(11).integers(3, 259, 100).tolist()


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One of the families."""
    family: Family = request.param
    return build(family, tmp_path_factory.mktemp("families"))


def descriptions(built: Built) -> list[ModelDescription]:
    found = [describe_folder(built.folder)]
    if built.gguf is not None:
        found.append(describe_gguf(read_gguf(built.gguf)))
    return found


def reference(built: Built, tokens: list[int]) -> np.ndarray:
    with torch.inference_mode():
        output = built.reference(torch.tensor([tokens]))
    values: np.ndarray = (output.last_hidden_state if built.family.encoder else output.logits)[0].numpy()
    return values


def test_the_canonical_model_is_the_one_of_transformers(built: Built) -> None:
    for description in descriptions(built):
        model = Canonical(description)
        for length in LENGTHS:
            expected = reference(built, TOKENS[:length])
            actual = model.hidden(TOKENS[:length]) if built.family.encoder else model.logits(TOKENS[:length])
            assert expected.std() > 0.3
            assert np.abs(actual - expected).max() < 2e-4 * expected.std(), length
