"""One measurement: what a process answers, or why there is no answer."""

import sys

import pytest

from measurement import REPOSITORY, Measurement, measure, parse_answer, rates, without_machine_paths

PEER_ANSWER = {"prompt_tokens": 512, "decode_tokens": 128, "prompt_s": [1.0, 2.0], "decode_s": [0.5, 0.25]}
OUR_ANSWER = {
    "prompt": {"tokens": 512, "tokens_per_s": {"median": 900.0, "min": 1, "max": 2}},
    "decode": {"tokens": 128, "tokens_per_s": {"median": 90.0, "min": 1, "max": 2}},
}


def run_python(source: str, timeout_s: float = 30.0) -> Measurement:
    return measure([sys.executable, "-c", source], Measurement("peer", "model.gguf", 0, 2), timeout_s)


def test_rates_of_a_worker_are_one_per_repetition() -> None:
    assert rates(PEER_ANSWER, "prompt") == [512.0, 256.0]
    assert rates(PEER_ANSWER, "decode") == [256.0, 512.0]


def test_rates_of_our_command_are_its_median() -> None:
    assert rates(OUR_ANSWER, "prompt") == [900.0]
    assert rates({"prompt": None}, "prompt") == []


@pytest.mark.parametrize("output", ['{"a": 1}', '{\n "a": 1\n}\n', 'loading...\n{"a": 1}\n'])
def test_the_answer_is_the_whole_output_or_its_last_line(output: str) -> None:
    assert parse_answer(output) == {"a": 1}


@pytest.mark.parametrize("output", ["", "no figures", "[1]"])
def test_other_output_is_no_answer(output: str) -> None:
    assert parse_answer(output) is None


def test_measure_fills_the_rates_and_what_the_kernel_counted() -> None:
    done = run_python(f"import json; print('note'); print(json.dumps({PEER_ANSWER!r}))")
    assert done.reason is None
    assert done.median("prompt") == 384.0
    assert done.raw == PEER_ANSWER
    assert done.wall_s > 0
    assert done.peak_resident_bytes is not None and done.peak_resident_bytes > 1_000_000


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import json; print(json.dumps({'reason': 'no such\\ntype'}))", "no such type"),
        ("import json; print(json.dumps({'error': {'message': 'no engine'}})); raise SystemExit(70)", "no engine"),
        ("import sys; print('first', file=sys.stderr); sys.exit('last words')", "exit status 1: last words"),
        ("print('hello')", "no JSON answer: nothing on stderr"),
        ("print('{}')", "its answer holds no rates"),
        ("import os; os.kill(os.getpid(), 9)", "exit status -9: nothing on stderr"),
    ],
)
def test_a_failure_is_a_reason(source: str, reason: str) -> None:
    assert run_python(source).reason == reason


def test_a_process_past_its_limit_is_ended() -> None:
    assert run_python("import time; time.sleep(60)", timeout_s=0.3).reason == "ran past 0 s"


def test_a_missing_command_is_a_reason() -> None:
    done = measure([str(REPOSITORY / "absent")], Measurement("peer", "model.gguf", 0, 2), 1.0)
    assert done.reason is not None and done.reason.startswith("can't start")
    assert str(REPOSITORY) not in done.reason


def test_machine_paths_are_taken_out() -> None:
    assert without_machine_paths(f"no {REPOSITORY}/x/y/z") == "no ./x/y/z"
    assert without_machine_paths("at /builds/7/src/gguf.cpp:84: 1/2 and/or") == "at gguf.cpp:84: 1/2 and/or"
