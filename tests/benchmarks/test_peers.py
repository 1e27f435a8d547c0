"""The command: options, turns, and a whole run with our command replaced by a small program."""

import json
import sys
from pathlib import Path

import pytest
from prompt_ids import FIRST_ORDINARY_ID, prompt_token_ids

import peers
from environments import PEERS
from measurement import REPOSITORY, Workload, our_command, peer_command

ANSWER = {
    "isa": "avx2",
    "prompt": {"tokens": 8, "tokens_per_s": {"median": 80.0, "min": 70.0, "max": 90.0}},
    "decode": {"tokens": 4, "tokens_per_s": {"median": 40.0, "min": 30.0, "max": 50.0}},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def our_program(folder: Path, body: str) -> Path:
    path = folder / "madang"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return path


def test_every_engine_gets_the_same_workload() -> None:
    workload = Workload(prompt_tokens=8, decode_tokens=4, repetitions=2)
    ours = our_command(Path("madang"), Path("/m.gguf"), workload, 3)
    theirs = peer_command(PEERS["transformers-bf16"], Path("/m.gguf"), workload, 3)
    same = ["--prompt-tokens", "8", "--decode-tokens", "4", "--repetitions", "2", "--threads", "3"]
    assert ours == ["madang", "bench", "file:/m.gguf", "--json", *same]
    assert theirs[-len(same) :] == same and "bfloat16" in theirs


def test_a_run_records_every_round_and_continues_after_each(model: Path, results: Path, tmp_path: Path) -> None:
    program = our_program(tmp_path, f"import json; print(json.dumps({ANSWER!r}))")
    options = [
        "run",
        str(model),
        "--peers",
        "",
        "--ours",
        str(program),
        "--rounds",
        "2",
        "--threads",
        "1,2",
        "--name",
        "t",
    ]
    assert peers.main(options) == 0
    assert peers.main(options) == 0
    first, second = sorted(results.iterdir(), key=lambda path: len(path.name))
    assert second.stem == f"{first.stem}-2"
    result = json.loads(first.read_text())
    turns = [(measurement["round"], measurement["threads"]) for measurement in result["measurements"]]
    assert turns == [(0, 1), (0, 2), (1, 2), (1, 1)]
    assert result["summary"][0]["prompt"]["tokens_per_s"]["median"] == 80.0
    assert result["measurements"][0]["raw"] == ANSWER
    assert str(tmp_path) not in first.read_text()


def test_an_engine_that_fails_is_asked_once_per_file(model: Path, results: Path, tmp_path: Path) -> None:
    program = our_program(tmp_path, "import sys; sys.exit('not built yet')")
    assert peers.main(["run", str(model), "--peers", "", "--ours", str(program)]) == 0
    result = json.loads(next(results.iterdir()).read_text())
    assert [measurement["reason"] for measurement in result["measurements"]] == ["exit status 1: not built yet"]
    assert result["summary"][0]["prompt"] is None


def test_a_missing_command_of_ours_is_a_reason(model: Path, results: Path, tmp_path: Path) -> None:
    assert peers.main(["run", str(model), "--peers", "", "--ours", str(tmp_path / "madang")]) == 0
    assert "not installed" in json.loads(next(results.iterdir()).read_text())["summary"][0]["reason"]


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "absent.gguf"], ["setup", "--peers", "lama.cpp"], ["run", __file__, "--rounds", "0"]],
)
def test_wrong_options_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        peers.main(arguments)
    assert stopped.value.code == 2


def test_the_recorded_command_names_no_folder_of_this_machine() -> None:
    arguments = ["run", str(REPOSITORY / "benchmarks" / "a.gguf"), "/elsewhere/b.gguf", "--rounds", "2"]
    recorded = peers.recorded_command(arguments)
    assert recorded == "python benchmarks/peers.py run benchmarks/a.gguf b.gguf --rounds 2"


def test_prompts_are_the_same_for_all_and_differ_by_repetition() -> None:
    first = prompt_token_ids(64, 1, 1000)
    assert first == prompt_token_ids(64, 1, 1000)
    assert first != prompt_token_ids(64, 2, 1000)
    assert min(first) >= FIRST_ORDINARY_ID and max(first) < 1000
