"""One measurement: an engine computes a prompt and decodes after it, in a process of its own.

A process per measurement keeps one engine's threads, memory and caches out of another's figures. What the process
cannot do becomes a reason on the record; nothing here raises for an engine's sake.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from environments import BENCHMARKS, WORKERS, Peer
from machine import CpuTime

REPOSITORY = BENCHMARKS.parent
OURS = "madang"
OURS_FAST = f"{OURS} --precision fast"
POLL_S = 0.05
ABSOLUTE_PATH = re.compile(r"(?<![\w.~])(?:/[\w.+@-]+){2,}/([\w.+@-]+)")


@dataclass(frozen=True)
class Workload:
    """What every engine computes: token counts, timed repetitions per process, and the limit for one process."""

    prompt_tokens: int = 512
    decode_tokens: int = 128
    repetitions: int = 3
    timeout_s: float = 1800.0


@dataclass
class Measurement:
    """One process's figures. `reason` is set instead of the rates when there are none."""

    engine: str
    model: str
    round: int
    threads: int
    prompt_tokens_per_s: list[float] = field(default_factory=list)
    decode_tokens_per_s: list[float] = field(default_factory=list)
    reason: str | None = None
    wall_s: float = 0.0
    own_cpu_s: float = 0.0
    other_cpu_s: float | None = None
    steal_s: float | None = None
    peak_resident_bytes: int | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    def median(self, phase: str) -> float | None:
        """Return the median tokens/s of `phase` ('prompt' or 'decode') over this process's repetitions."""
        rates: list[float] = getattr(self, f"{phase}_tokens_per_s")
        return statistics.median(rates) if rates else None


def our_command(executable: Path, model: Path, workload: Workload, threads: int, *, fast: bool = False) -> list[str]:
    """Return the command line that measures this repository's engine."""
    return [
        *(str(executable), "bench", f"file:{model}", "--json"),
        *("--prompt-tokens", str(workload.prompt_tokens), "--decode-tokens", str(workload.decode_tokens)),
        *("--repetitions", str(workload.repetitions), "--threads", str(threads)),
        *(("--precision", "fast") if fast else ()),
    ]


def peer_command(peer: Peer, model: Path, workload: Workload, threads: int) -> list[str]:
    """Return the command line that measures `peer`."""
    return [
        *(str(peer.environment.python), str(WORKERS / peer.worker), "--model", str(model), "--variant", peer.variant),
        *("--prompt-tokens", str(workload.prompt_tokens), "--decode-tokens", str(workload.decode_tokens)),
        *("--repetitions", str(workload.repetitions), "--threads", str(threads)),
    ]


def measure(command: Sequence[str], measurement: Measurement, timeout_s: float) -> Measurement:
    """Run `command`, fill `measurement` from its JSON answer and from what the kernel counted, and return it."""
    before, started = CpuTime.now(), time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)
        except OSError as error:
            measurement.reason = without_machine_paths(f"can't start: {error}")
            return measurement
        status, usage = _wait(process, timeout_s)
        measurement.wall_s = time.perf_counter() - started
        answer = parse_answer(_text(output))
        measurement.reason = _failure(status, answer, _text(errors), timeout_s)
    measurement.own_cpu_s = usage.ru_utime + usage.ru_stime
    measurement.peak_resident_bytes = usage.ru_maxrss * 1024  # Linux counts in KiB
    _count_others(measurement, before, CpuTime.now())
    if measurement.reason is None and answer is not None:
        measurement.raw = json.loads(without_machine_paths(json.dumps(answer)))
        measurement.prompt_tokens_per_s = rates(answer, "prompt")
        measurement.decode_tokens_per_s = rates(answer, "decode")
        if not (measurement.prompt_tokens_per_s and measurement.decode_tokens_per_s):
            measurement.reason = "its answer holds no rates"
    return measurement


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int | None, Any]:
    """Wait for the process; return its exit status (None: it ran past the limit and was killed) and its usage."""
    deadline = time.monotonic() + timeout_s
    timed_out = False
    while True:
        pid, status, usage = os.wait4(process.pid, 0 if timed_out else os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return None if timed_out else process.returncode, usage
        if time.monotonic() > deadline:
            process.kill()
            timed_out = True
        else:
            time.sleep(POLL_S)


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def parse_answer(output: str) -> dict[str, Any] | None:
    """Return the JSON object in `output`: all of it, or else its last line; None when there is none."""
    lines = output.strip().splitlines()
    for text in (output, lines[-1] if lines else ""):
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(answer, dict):
            return answer
    return None


def _failure(status: int | None, answer: dict[str, Any] | None, errors: str, timeout_s: float) -> str | None:
    """Say in one line why there are no figures; None when there are."""
    last_line = (errors.strip().splitlines() or ["nothing on stderr"])[-1]
    if status is None:
        return f"ran past {timeout_s:.0f} s"
    if answer is not None and (stated := _stated_reason(answer)) is not None:
        return without_machine_paths(" ".join(stated.split()))
    if status != 0:
        return without_machine_paths(f"exit status {status}: {last_line}")
    return None if answer is not None else without_machine_paths(f"no JSON answer: {last_line}")


def _stated_reason(answer: dict[str, Any]) -> str | None:
    """Return the reason a worker gives under "reason", or our command under "error": {"message"}; else None."""
    if "reason" in answer:
        return str(answer["reason"])
    error = answer.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else None


def _count_others(measurement: Measurement, before: CpuTime | None, after: CpuTime | None) -> None:
    """Record the CPU seconds that other processes and the hypervisor took meanwhile: the noise of this figure."""
    if before is None or after is None:
        return
    measurement.other_cpu_s = max(0.0, after.busy_s - before.busy_s - measurement.own_cpu_s)
    measurement.steal_s = after.steal_s - before.steal_s


def rates(answer: dict[str, Any], phase: str) -> list[float]:
    """Return tokens/s of `phase` per repetition; from `madang bench`, which prints no single ones, the median."""
    if f"{phase}_s" in answer:
        return [answer[f"{phase}_tokens"] / seconds for seconds in answer[f"{phase}_s"]]
    summary = answer.get(phase)
    if not isinstance(summary, dict) or "tokens_per_s" not in summary:
        return []
    return [float(summary["tokens_per_s"]["median"])]


def without_machine_paths(text: str) -> str:
    """Return `text` without this machine's folders, other paths cut to a file name: results are read elsewhere."""
    for folder, name in ((REPOSITORY, "."), (Path.home(), "~")):
        text = text.replace(str(folder), name)
    return ABSOLUTE_PATH.sub(r"\1", text)
