"""Every family: folder -> GGUF -> folder, against the real converter's names, transformers and llama.cpp."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from madang.conversion import to_folder, to_gguf
from madang.conversion.streams import values_of
from madang.core.errors import CannotConvert
from madang.formats.families import describe_folder
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from tests.conversion.peers import LlamaCpp, of_transformers, row_of
from tests.parity.checkpoints import byte_tokenizer
from tests.parity.families import FAMILIES, SWITCH, VOCABULARY, WINDOW, Built, Family, build

# GGUF has no way to say these.
REFUSED = {
    "qwen2-windowed": "sliding_window",
    "qwen3-moe-unscaled": "experts",
    "gemma2-scaled": "attention scale",
}
WRITTEN = [family for family in FAMILIES if family.name not in REFUSED]

# llama.cpp computes something else for texts of other lengths: it has no window in the first three architectures, and
# chooses LongRoPE's frequencies by the size of the context, not by the length of the text.
LENGTHS = {
    **dict.fromkeys(("mistral", "phi3", "starcoder2"), (1, 5, 11, WINDOW - 2, WINDOW - 1)),
    "phi3-long": (SWITCH + 1, SWITCH + 10, 90, 100),
}
OTHERWISE = {"exaone4-hybrid": "it takes the window from the number of layers, 64, and this model has 5"}
USUAL = (1, 5, 11, 50, SWITCH + 1, 97, 100)
# It computes GELU from a table of float16, and these families have it; else differences are those of float32.
TABLE, EXACT = 1e-2, 2e-4
GELU = ("gemma", "phi", "falcon", "gpt2", "starcoder2", "bert", "xlm")


@dataclass(frozen=True)
class Converted:
    built: Built
    gguf: Path
    folder: Path


@pytest.fixture(scope="module", params=WRITTEN, ids=str)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A model of one of the families, there and back in float32."""
    work = tmp_path_factory.mktemp("converted")
    built = built_with_tokens(request.param, work)
    gguf, folder = work / "there.gguf", work / "back"
    # llama.cpp wants more tokens than these of models with "phi3" in their name.
    to_gguf(built.folder, gguf, TensorType.F32, name="tiny", n_threads=1)
    to_folder(gguf, folder, n_threads=1)
    return Converted(built, gguf, folder)


def built_with_tokens(family: Family, work: Path) -> Built:
    built = build(family, work)
    (built.folder / "tokenizer.json").write_text(byte_tokenizer(VOCABULARY))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (built.folder / "tokenizer_config.json").write_text(json.dumps(names))
    return built


def test_it_is_what_the_converter_writes(converted: Converted) -> None:
    """The file of tests/parity/families.py has its names, and the same values and settings."""
    assert converted.built.gguf is not None
    theirs, ours = read_gguf(converted.built.gguf), read_gguf(converted.gguf)
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, tensor in theirs.tensors.items():
        assert np.array_equal(values_of(ours.tensors[name]), values_of(tensor)) or name.startswith("rope_"), name
    arch = theirs.architecture
    for key, value in theirs.metadata.items():
        if key.startswith(f"{arch}.") and not key.startswith("bert.rope"):  # which the reference has for no reason
            expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-6)
            assert np.all(ours.metadata[key] == expected), key


def test_the_weights_come_back(converted: Converted) -> None:
    """Bit by bit; of norms that are kept as their distance from one, what float32 has left of it."""
    before, after = describe_folder(converted.built.folder), describe_folder(converted.folder)
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        assert np.array_equal(values_of(tensor), values_of(after.tensors[name])), name
    assert before.embedding == after.embedding


def test_transformers_computes_the_same(converted: Converted) -> None:
    encoder = converted.built.family.encoder
    back = of_transformers(converted.folder, encoder=encoder)
    for tokens in prompts(*USUAL):
        expected = row_of(converted.built.reference, tokens, encoder=encoder)
        assert np.abs(row_of(back, tokens, encoder=encoder) - expected).max() < 1e-5


def test_llama_cpp_computes_the_same(converted: Converted) -> None:
    family = converted.built.family
    if family.name in OTHERWISE:
        pytest.skip(f"llama.cpp: {OTHERWISE[family.name]}")
    server = LlamaCpp(converted.gguf, VOCABULARY, encoder=family.encoder)
    limit = TABLE if family.name.startswith(GELU) else EXACT
    n_compared = 0
    for tokens in prompts(*LENGTHS.get(family.name, USUAL)):
        found = server.row(tokens)
        if found is not None:
            expected = row_of(converted.built.reference, tokens, encoder=family.encoder)
            assert np.nanmax(np.abs(found - expected)) < limit
            n_compared += np.isfinite(found).sum() == len(expected)
    assert n_compared >= 2


def prompts(*lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(3, VOCABULARY, length).tolist() for length in lengths]


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_cannot_say_is_refused(tmp_path: Path, name: str) -> None:
    built = built_with_tokens(next(family for family in FAMILIES if family.name == name), tmp_path)
    with pytest.raises(CannotConvert, match=REFUSED[name]):
        to_gguf(built.folder, tmp_path / "out" / "a.gguf")
    assert not (tmp_path / "out").exists()
