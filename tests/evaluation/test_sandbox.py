"""Programs of models run apart, and what is shut to them stays shut."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from madang.evaluation.running import in_form
from madang.evaluation.sandbox import SandboxLimits, run_program, sandbox_coverage
from madang.evaluation.tasks import Item, Response
from madang.evaluation.tasks.humaneval import HumanEval, program_of

LIMITS = SandboxLimits(wall_s=20.0, cpu_s=1)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for programs")


@pytest.mark.parametrize(
    ("program", "passes"),
    [
        ("assert 1 + 1 == 2", True),
        ("import collections, hashlib, math, re, typing; hashlib.md5(b'').hexdigest()", True),
        ("open('own', 'w').write('mine'); assert open('own').read() == 'mine'", True),
        ("assert False", False),
        ("this is no Python", False),
        ("raise SystemExit(0)", False),
        ("import os; os._exit(0)", False),
        ("while True: pass", False),
        ("kept = bytearray(3 << 30)", False),
        ("open('own', 'wb').write(b'x' * (1 << 25))", False),
        ("import sys; sys.stdin.read(); input()", False),
    ],
)
def test_a_program_passes_when_it_comes_to_its_end_within_its_limits(program: str, passes: bool) -> None:
    assert run_program(program, LIMITS).passed is passes


def test_a_program_that_waits_is_ended() -> None:
    ran = run_program("import time; time.sleep(60)", SandboxLimits(wall_s=1.0))
    assert ran.timed_out and not ran.passed


def test_what_is_covered_is_shut(tmp_path: Path) -> None:
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.write_text("secret")
    shut = run_program("", LIMITS).shut
    tries = {
        "network": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "files": f"open({str(secret)!r}).read()",
    }
    for what, program in tries.items():
        if shut[what]:
            assert not run_program(program, LIMITS).passed
    if shut["files"]:
        assert not run_program(f"open({str(outside)!r}, 'w').write('x')", LIMITS).passed
        assert not outside.exists()
    if shut["network"]:
        only_lo = "import socket; assert [name for _, name in socket.if_nameindex()] == ['lo']"
        assert run_program(only_lo, LIMITS).passed
    if shut["processes"]:
        assert run_program("import os; assert os.getpid() == 1", LIMITS).passed


def test_the_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_SECRET", "x")
    assert run_program("import os; assert 'MADANG_SECRET' not in os.environ", LIMITS).passed


def test_what_is_not_covered_is_said() -> None:
    covered, missing = sandbox_coverage()
    assert covered and any("virtual machine" in own for own in missing)
    told = " ".join(missing)
    shut = run_program("", LIMITS).shut
    assert ("the network" in told) is not (shut["network"] or shut["tcp"])
    assert ("files:" in told) is not shut["files"]


ROW = {
    "task_id": "Own/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "double",
}


@pytest.mark.parametrize(
    ("completion", "score"), [("    return 2 * x\n", 1), ("    return x\n", 0), ("", 0), ("```", 0)]
)
def test_completions_are_tested(completion: str, score: float) -> None:
    task = HumanEval("x", lambda: [ROW], LIMITS)
    (item,) = task.items()
    assert task.prompt(item).request.prompt == ROW["prompt"]
    assert task.score(item, Response(text=completion)) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Sure:\n\n```python\ndef double(x):\n    return two * x\n```\nIt doubles.", 1),
        ("```\ndef double(x):\n    return two * x\n", 1),  # it was cut off
        ("```python\nprint(1)\n```\n```python\ndef double(x):\n    return two * x\n```", 1),
        ("```python\ndef twice(x):\n    return two * x\n```", 0),
        ("```python\ndef double(x):\n    return x\n```", 0),
    ],
)
def test_answers_of_chats_are_tested(answer: str, score: float) -> None:
    task = HumanEval("x", lambda: [{**ROW, "prompt": f"two = 2\n\n\n{ROW['prompt']}"}], LIMITS)
    (item,) = task.items()
    chat = in_form(task.prompt(item), True).request
    assert chat.prompt is None and ROW["prompt"].strip() in str(chat.messages[0].content) and not chat.stop
    assert task.score(item, Response(text=answer)) == score


def test_reference_solutions_pass(shared_data: Path) -> None:
    from madang.evaluation.tasks.rows import read_rows

    rows = read_rows(shared_data / "english" / "HumanEval.jsonl.gz")
    assert len(rows) == 164
    for row in rows[:6]:
        assert run_program(program_of(Item("0", row), row["canonical_solution"]), SandboxLimits()).passed
