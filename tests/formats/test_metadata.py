"""Typed metadata: the asked type in the asked range, or a sentence with the key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import MalformedFile
from madang.formats.metadata import CheckedMetadata

METADATA = CheckedMetadata(
    Path("model.gguf"),
    {
        "int": 7,
        "zero": 0,
        "negative": -1,
        "huge": 2**64 - 1,
        "float": 0.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "bool": False,
        "text": "",
        "texts": ["a"],
        "ints": np.array([3, 1, 2], np.int32),
        "big": np.array([2**64 - 1], np.uint64),
        "floats": np.array([0.5, -np.inf], np.float32),
        "nans": np.array([np.nan], np.float32),
        "bools": np.array([True]),
        "none": np.array([], np.int32),
    },
)


def test_values_of_the_asked_type() -> None:
    assert METADATA.require_int("int") == METADATA.get_int("int", None) == 7
    assert METADATA.get_int("zero", 5) == 0
    assert METADATA.require_int("huge", high=2**64) == 2**64 - 1
    assert METADATA.require_float("float") == 0.5
    assert isinstance(METADATA.require_float("int"), float)
    assert METADATA.get_bool("bool", True) is False
    assert METADATA.require_str("text") == ""
    assert METADATA.require_strs("texts") == METADATA.get_strs("texts", None) == ["a"]
    ints = METADATA.get_ints("ints", None)
    assert ints is not None
    assert (ints.dtype, ints.tolist()) == (np.int64, [3, 1, 2])
    assert METADATA.get_ints("none", None) is not None
    floats = METADATA.get_floats("floats", None)
    assert floats is not None
    assert (floats.dtype, floats.tolist()) == (np.float64, [0.5, -np.inf])


def test_missing_keys() -> None:
    assert METADATA.get_int("x", 3) == 3
    assert METADATA.get_float("x", None) is None
    assert METADATA.get_bool("x", True) is True
    assert METADATA.get_str("x", "d") == "d"
    assert METADATA.get_strs("x", None) is METADATA.get_ints("x", None) is METADATA.get_floats("x", None) is None
    for require in (METADATA.require_int, METADATA.require_float, METADATA.require_str, METADATA.require_strs):
        with pytest.raises(MalformedFile, match=r"^model.gguf is not a valid model file: metadata 'x' is missing\.$"):
            require("x")


@pytest.mark.parametrize(
    ("method", "key", "problem"),
    [
        ("get_int", "float", "is a number, expected a whole number"),
        ("get_int", "bool", "is true or false, expected a whole number"),
        ("get_int", "ints", "is a list of whole numbers, expected a whole number"),
        ("get_int", "huge", f"is {2**64 - 1}, expected 0 to 2147483647"),
        ("get_int", "negative", "is -1, expected 0 to 2147483647"),
        ("get_float", "text", "is a text, expected a number"),
        ("get_float", "bool", "is true or false, expected a number"),
        ("get_float", "nan", "is nan, expected a finite number"),
        ("get_float", "inf", "is inf, expected a finite number"),
        ("get_bool", "zero", "is a whole number, expected true or false"),
        ("get_str", "int", "is a whole number, expected a text"),
        ("get_str", "texts", "is a list of texts, expected a text"),
        ("get_strs", "text", "is a text, expected a list of texts"),
        ("get_strs", "ints", "is a list of whole numbers, expected a list of texts"),
        ("get_ints", "int", "is a whole number, expected a list of whole numbers"),
        ("get_ints", "bools", "is a list of true and false, expected a list of whole numbers"),
        ("get_ints", "floats", "is a list of numbers, expected a list of whole numbers"),
        ("get_ints", "big", f"is {2**64 - 1}, expected 0 to 2147483647"),
        ("get_floats", "float", "is a number, expected a list of numbers"),
        ("get_floats", "bools", "is a list of true and false, expected a list of numbers"),
        ("get_floats", "nans", "holds NaN, expected numbers"),
    ],
)
def test_other_types_and_ranges_are_refused(method: str, key: str, problem: str) -> None:
    with pytest.raises(MalformedFile) as caught:
        getattr(METADATA, method)(key, None)
    assert caught.value.problem == f"metadata '{key}' {problem}"


def test_ranges_are_inclusive() -> None:
    assert METADATA.require_int("int", low=7, high=7) == 7
    with pytest.raises(MalformedFile, match="is 7, expected 1 to 6"):
        METADATA.require_int("int", low=1, high=6)
    with pytest.raises(MalformedFile, match=r"is 0\.5, expected at least 1"):
        METADATA.require_float("float", low=1)
    with pytest.raises(MalformedFile, match=r"is 0\.5, expected at most 0"):
        METADATA.require_float("float", high=0)
    with pytest.raises(MalformedFile, match="is 3, expected 0 to 2"):
        METADATA.get_ints("ints", None, high=2)
