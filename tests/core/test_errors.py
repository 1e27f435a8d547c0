"""The error tree: as drawn, complete, and readable by people and programs."""

from __future__ import annotations

import json
import re

import pytest

from madang.core import errors
from madang.core.errors import (
    ChecksumMismatch,
    ContextLengthExceeded,
    MadangError,
    MalformedFile,
    ModelNotFound,
    NotEnoughDisk,
    NotEnoughMemory,
    UnknownOption,
    UnsupportedModel,
)

EXAMPLES = [
    UnknownOption("setting", "thread", ["threads"]),
    ContextLengthExceeded(5000, 4096),
    ModelNotFound("smolm2", ["smollm2:135m"]),
    MalformedFile("/models/x.gguf", "it ends inside the header"),
    UnsupportedModel("the architecture 'mamba'", runs_with="the llamacpp engine"),
    ChecksumMismatch("x.gguf", "a" * 64, "b" * 64),
    NotEnoughMemory("smollm2:135m", 4_000_000_000, 2_000_000_000),
    NotEnoughDisk("/home", 98_362_432, 1000),
]


def family(kind: type[MadangError]) -> set[type[MadangError]]:
    return {kind}.union(*(family(child) for child in kind.__subclasses__() if child.__module__ == errors.__name__))


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?:\s|$)", line):
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__mro__[1].__name__ for kind in family(MadangError)}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_each_is_one_sentence_a_next_step_and_json(error: MadangError) -> None:
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.hint
    document = json.loads(json.dumps(error.to_dict()))
    assert document["code"] == type(error).code
    assert document["message"] == str(error)
    assert error.exit_code > 0


def test_numbers_are_fields_and_stand_in_the_sentence() -> None:
    error = ContextLengthExceeded(5000, 4096)
    assert error.to_dict()["n_prompt_tokens"] == 5000
    assert error.to_dict()["n_ctx"] == 4096
    assert "5000" in error.message
    assert "4096" in error.message
    assert "one must be left" in ContextLengthExceeded(4096, 4096).message


def test_no_two_classes_that_are_raised_share_a_code() -> None:
    codes = [kind.code for kind in family(MadangError)]
    assert len(codes) == len(set(codes))


def test_a_word_without_neighbours_gets_the_list() -> None:
    assert UnknownOption("verb", "xyzzy", ["run", "pull"]).hint == "Known: run, pull."
