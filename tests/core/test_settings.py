"""Where a setting comes from, and what happens to one that makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.settings import SETTINGS, Settings, load_settings, unknown_variables


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def load(home: Path, command_line: dict[str, object] | None = None, **environment: str) -> Settings:
    return load_settings(command_line or {}, {"MADANG_HOME": str(home), **environment})  # type: ignore[arg-type]


def write_config(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text, encoding="utf-8")


def test_the_table_and_the_values_name_the_same_settings() -> None:
    fields = [
        name for name in Settings.__dataclass_fields__ if name not in ("origins", "secret", "qdrant_key", "neighbours")
    ]
    assert [setting.name for setting in SETTINGS] == fields


def test_command_line_beats_environment_beats_config_beats_default(home: Path) -> None:
    write_config(home, "threads = 3\n")
    steps = [
        (load_settings({}, {"MADANG_HOME": str(home / "other")}), None, "default"),
        (load(home), 3, "config file"),
        (load(home, MADANG_THREADS="2"), 2, "environment"),
        (load(home, {"threads": 1}, MADANG_THREADS="2"), 1, "command line"),
    ]
    for settings, value, origin in steps:
        assert (settings.threads, settings.origins["threads"]) == (value, origin)


def test_none_on_the_command_line_is_an_option_not_given(home: Path) -> None:
    assert load(home, {"threads": None}, MADANG_THREADS="2").threads == 2


def test_an_empty_variable_is_an_unset_one(home: Path) -> None:
    assert load(home, MADANG_THREADS="").origins["threads"] == "default"


def test_home_is_absolute_and_understands_the_tilde() -> None:
    settings = load_settings({}, {})
    assert settings.home == Path.home() / ".madang"
    assert load_settings({}, {"MADANG_HOME": "here"}).home.is_absolute()


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("thread = 3", ["'thread'", "threads"]),
        ("home = '/elsewhere'", ["'home'", "MADANG_HOME"]),
        ("threads = ", ["config.toml", "TOML"]),
        ("threads = 'many'", ["'threads' in config.toml", "many", "whole number"]),
        ("threads = true", ["'threads' in config.toml", "whole number"]),
        ("threads = 2.5", ["2.5", "whole number"]),
        ("threads = 0", ["from 1"]),
        ("engine = 3", ["'engine'", "text"]),
        ("debug = 2", ["'debug'", "1 or 0"]),
    ],
)
def test_a_bad_config_file_is_one_sentence_that_names_the_culprit(home: Path, config: str, names: list[str]) -> None:
    write_config(home, config)
    with pytest.raises(InvalidRequest) as caught:
        load(home)
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(name in said for name in names), said


def test_a_config_file_in_another_encoding_is_refused(home: Path) -> None:
    (home / "config.toml").write_bytes("engine = '마당'".encode("cp949"))
    with pytest.raises(InvalidRequest, match=r"config\.toml"):
        load(home)


@pytest.mark.parametrize("value", ["x", "0", "-1", "99999", "1e3"])
def test_a_bad_variable_is_named(home: Path, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"MADANG_THREADS is '{value}'"):
        load(home, MADANG_THREADS=value)


@pytest.mark.parametrize(("word", "value"), [("1", True), ("TRUE", True), ("off", False), ("0", False)])
def test_switches(home: Path, word: str, value: bool) -> None:
    assert load(home, MADANG_DEBUG=word).debug is value


def test_an_unknown_name_on_the_command_line_is_an_error(home: Path) -> None:
    with pytest.raises(UnknownOption, match="'thread'"):
        load(home, {"thread": 1})


def test_rows_show_every_setting_with_its_origin(home: Path) -> None:
    rows = {setting.name: (value, origin) for setting, value, origin in load(home, MADANG_ISA="avx2").rows()}
    assert rows["isa"] == ("avx2", "environment")
    assert rows["context"] == (None, "default")
    assert len(rows) == len(SETTINGS)


def test_variables_that_only_look_like_settings_are_found() -> None:
    environment = {"MADANG_THREAD": "2", "MADANG_HOME": "/x", "MADANG_XYZZY": "", "MADANG_TEST_DATA": "/y", "PATH": "."}
    assert unknown_variables(environment) == {"MADANG_THREAD": "MADANG_THREADS", "MADANG_XYZZY": None}


def test_a_size_is_written_with_its_unit(home: Path) -> None:
    assert load(home).kv_memory is None
    assert load(home, MADANG_KV_MEMORY="2GB").kv_memory == 2_000_000_000
    assert load(home, {"kv_memory": "512MiB"}).kv_memory == 512 * 1024**2
    with pytest.raises(InvalidRequest, match="--kv-memory is 'much', but must be a size such as"):
        load(home, {"kv_memory": "much"})


def test_the_key_of_a_qdrant_server_is_known_and_never_shown() -> None:
    settings = load_settings({}, {"MADANG_QDRANT_KEY": "hush", "MADANG_QDRANT_URL": "http://localhost:6333"})
    assert settings.qdrant_key == "hush"
    assert settings.qdrant_url == "http://localhost:6333"
    assert "hush" not in repr(settings) + str([*settings.rows()])
    assert unknown_variables({"MADANG_QDRANT_KEY": "hush"}) == {}
