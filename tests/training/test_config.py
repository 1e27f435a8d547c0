"""What a config may say, and what is answered when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, UnknownOption
from madang.training.config import TuneConfig, config_of, read_values, recipe_names, write_config


def test_what_was_written_is_read(tmp_path: Path) -> None:
    config = TuneConfig("smollm2:135m", 'a "b".jsonl', method="qlora", dora=True, learning_rate=3e-4, seed=0)
    write_config(tmp_path / "config.toml", config)
    assert config_of(read_values(str(tmp_path / "config.toml"))) == config


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "run.toml").write_text('model = "m:x"\ndata = "rows.jsonl"\n')
    assert read_values(str(tmp_path / "run.toml"))["data"] == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("name", ["korean-qa", "english-extraction"])
def test_recipes_need_nothing_but_data(name: str) -> None:
    assert name in recipe_names()
    assert config_of({**read_values(name), "data": "x.csv"}).model == "smollm2:135m"


def test_an_unknown_recipe_is_guessed() -> None:
    with pytest.raises(UnknownOption) as caught:
        read_values("korean-qna")
    assert "korean-qa" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rat": 1e-3}, "learning_rat"),
        ({"rank": 0}, "from 1 to 1024"),
        ({"rank": 2.5}, "whole number"),
        ({"rank": True}, "whole number"),
        ({"learning_rate": "fast"}, "a number"),
        ({"dora": 1}, "true or false"),
        ({"method": "lorra"}, "lorra"),
        ({"steps": 3, "epochs": 1}, "exclude each other"),
        ({"method": "full", "dora": True}, "belong to LoRA"),
        ({"learning_rate": float("nan")}, "from 1e-08 to 1"),
        ({"model": ""}, "must be text"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        config_of({"model": "m:x", "data": "d", **values})
    assert said in caught.value.message


def test_a_run_needs_data() -> None:
    with pytest.raises(InvalidRequest, match="has no data"):
        config_of({"model": "m:x"})


def test_broken_toml_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("model = \n")
    with pytest.raises(InvalidRequest, match="line 1"):
        read_values(str(tmp_path / "run.toml"))
