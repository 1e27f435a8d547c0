"""``madang tokens``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Madang
from tests.native.tiny import MODEL
from tests.parity.checkpoints import write_checkpoint

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"file:{write_checkpoint(MODEL, tmp_path_factory.mktemp('tiny') / 'tiny.gguf').path}"


def test_several_models_behind_one_option(madang: Madang, model: str) -> None:
    result = madang("tokens", "가a", "--models", model, model, "--json")
    assert result.status == 0
    found = result.json()
    assert found["n_characters"] == 2
    assert [one["n_tokens"] for one in found["models"]] == [4, 4]
    assert found["models"][0]["tokens_per_letter"] == {"korean": 3.0, "english": 1.0}
    assert found["models"][0]["tokens"][3] == {"id": 100, "text": "a", "start": 1, "end": 2, "is_control": False}


def test_what_people_see(madang: Madang, model: str) -> None:
    result = madang("tokens", "가a", "--models", model)
    assert result.status == 0
    assert result.out.splitlines()[1] == "가₃│a"
    assert "PER CHARACTER  KOREAN  ENGLISH" in result.out and "2.00" in result.out
    assert "how many tokens" in result.err


def test_a_text_comes_from_a_file_or_a_pipe(madang: Madang, model: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("ab", encoding="utf-8")
    for how in (("--file", str(tmp_path / "text.txt")), ()):
        found = madang("tokens", *how, "--models", model, "--json", stdin=b"ab").json()
        assert found["models"][0]["n_tokens"] == 2


def test_two_languages(madang: Madang, model: str, tmp_path: Path) -> None:
    korean, english = tmp_path / "ko.txt", tmp_path / "en.txt"
    korean.write_text("가나", encoding="utf-8")
    english.write_text("ab", encoding="utf-8")
    asked = ("tokens", "--parallel", str(korean), str(english), "--models", model)
    assert madang(*asked, "--json").json()["models"][0]["ratio"] == 3.0
    assert madang(*asked).out.split()[-1] == "3.00"


def test_what_makes_no_sense(madang: Madang, model: str, tmp_path: Path) -> None:
    assert "There is no text" in madang("tokens", "--models", model).err
    assert "exclude" in madang("tokens", "a", "--file", "b", "--models", model).err
    assert "No model is here" in madang("tokens", "a").err
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    empty = str(tmp_path / "empty.txt")
    assert "empty" in madang("tokens", "--parallel", empty, empty, "--models", model).err
    for result in (
        madang("tokens", "--file", str(tmp_path / "binary"), "--models", model),
        madang("tokens", "--file", str(tmp_path / "nothing"), "--models", model),
        madang("tokens", "a", "--models", "file:/nowhere.gguf"),
        madang("tokens", "a", "--models"),
    ):
        assert result.status != 0 and "Traceback" not in result.err


def test_control_characters_of_a_text_do_not_steer_the_terminal(madang: Madang, model: str) -> None:
    result = madang("tokens", "--models", model, stdin=b"a\x1b[31mb", MADANG_DEBUG="")
    assert result.status == 0
