"""config.json becomes checked metadata; what is odd in it is an error that names the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.core.errors import MadangError, MalformedFile, ModelNotFound
from madang.formats.folder import MAX_NESTING, ModelFolder, read_folder
from tests.formats.malformed.safetensors_files import VALID


def folder_of(path: Path, config: object) -> ModelFolder:
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(VALID)
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return read_folder(path)


def test_values_are_read_by_type(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}},
        "layer_types": ["a", "b"],
        "flags": [True, False],
        "counts": [1, 2],
        "factors": [1, 2.5],
        "mixed": [1, "a", None],
        "huge": [10**400],
        "nothing": None,
        "empty": [],
    }
    folder = folder_of(tmp_path, config)
    assert folder.architecture == "llama"
    assert folder.folder == tmp_path
    assert folder.require_int("hidden_size") == 64
    assert folder.require_float("rope_parameters.full_attention.rope_theta") == 1e6
    assert folder.section("rope_parameters").section("full_attention").require_str("rope_type") == "default"
    assert folder.require_strs("layer_types") == ["a", "b"]
    counts, factors = folder.get_ints("counts", None), folder.get_floats("factors", None)
    assert counts is not None and counts.tolist() == [1, 2]
    assert factors is not None and factors.tolist() == [1, 2.5]
    assert folder.get_ints("nothing", None) is None
    assert folder.get_strs("empty", None) is None
    assert isinstance(folder.metadata["flags"], np.ndarray) and folder.metadata["flags"].dtype == np.bool_
    for key in ("mixed", "huge"):
        with pytest.raises(MalformedFile, match=rf"'{key}' is a list of other things, expected a list of numbers"):
            folder.get_floats(key, None)
    assert set(folder.tensors) == {"가중치", "a", "bias", "ids", "nothing"}


def test_aliases_and_defaults_give_way_to_what_is_written(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"n_layer": 3, "hidden_size": 8, "n_embd": 9})
    folder = folder.with_aliases(num_hidden_layers="n_layer", hidden_size="n_embd").with_defaults(hidden_size=7, x=1)
    assert [folder.require_int(key) for key in ("num_hidden_layers", "hidden_size", "x")] == [3, 8, 1]


DEEP: dict[str, Any] = {}
for _ in range(MAX_NESTING + 1):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("[1]", "it holds no JSON object"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        (DEEP, "nested more than 16 deep"),
        ({"a": float("nan")}, "expected a finite number"),
        ({"a": "x"}, "'a' is a text, expected a number"),
    ],
)
def test_what_is_no_config(tmp_path: Path, config: object, problem: str) -> None:
    with pytest.raises(MalformedFile, match=problem):
        folder_of(tmp_path, config).get_float("a", 0.0)


def test_a_folder_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="There is no model"):
        read_folder(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON, max_size=3))
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    try:
        folder = folder_of(path, config)
        for key in list(folder.metadata):
            for get in (folder.get_int, folder.get_float, folder.get_strs, folder.get_ints, folder.get_floats):
                try:
                    get(key, None)
                except MalformedFile as error:
                    assert key in error.message
    except MadangError as error:
        assert error.message.isprintable()
