"""The peers: what each needs installed, which worker measures it, and the virtual environment it lives in.

Every peer has its own environment under `benchmarks/.envs/`, so their dependencies can't disagree. A finished
environment holds `installed.json`; one whose recipe has changed since is made again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
ENVIRONMENTS = BENCHMARKS / ".envs"
WORKERS = BENCHMARKS / "workers"
GGUF = "gguf==0.19.0"


class SetupError(Exception):
    """A peer's environment can't be made; the message says which step failed and its last line."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its main package (whose version tables show), pip argument lists run in order, and the
    variables set while they run."""

    name: str
    package: str
    pip_steps: tuple[tuple[str, ...], ...]
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        scripts = "Scripts" if os.name == "nt" else "bin"
        return self.folder / scripts / "python"

    @property
    def record(self) -> Path:
        return self.folder / "installed.json"


@dataclass(frozen=True)
class Peer:
    """One engine beside ours: its name in tables, environment, worker script and the worker's variant."""

    name: str
    environment: Environment
    worker: str
    variant: str = ""


LLAMA_CPP = Environment(
    "llama.cpp",
    "llama_cpp_python",
    # No cache: pip would reuse a wheel that was compiled with other flags or for another processor.
    (("--no-cache-dir", "--no-binary", "llama-cpp-python", "llama-cpp-python==0.3.36"), (GGUF,)),
    (("CMAKE_ARGS", "-DGGML_NATIVE=ON"),),
)
# Apart from the other, so that what it serves with is no part of that one.
LLAMA_CPP_SERVER = Environment(
    "llama.cpp-server",
    "llama_cpp_python",
    (("--no-cache-dir", "--no-binary", "llama-cpp-python", "llama-cpp-python[server]==0.3.36"),),
    (("CMAKE_ARGS", "-DGGML_NATIVE=ON"),),
)
OPENVINO = Environment("openvino", "openvino-genai", (("openvino-genai==2026.4.1.0",),))
TRANSFORMERS = Environment(
    "transformers",
    "transformers",
    # torch first and exact: an open range takes the newest build, which brings several gigabytes for other devices.
    (("torch==2.13.0",), ("transformers==5.23.0", "accelerate", GGUF)),
)

# Not in any package index: whoever has built it names its llama-bench in MADANG_LLAMA_BENCH.
IK_LLAMA_CPP = Environment("ik_llama.cpp", "ik_llama.cpp", ())

PEERS = {
    peer.name: peer
    for peer in (
        Peer("llama.cpp", LLAMA_CPP, "worker_llama_cpp.py"),
        Peer("ik_llama.cpp", IK_LLAMA_CPP, "worker_llama_bench.py"),
        Peer("openvino", OPENVINO, "worker_openvino.py"),
        Peer("transformers-bf16", TRANSFORMERS, "worker_transformers.py", "bfloat16"),
        Peer("transformers-f32", TRANSFORMERS, "worker_transformers.py", "float32"),
    )
}
DEFAULT_PEERS = ("llama.cpp", "openvino")


def ensure_environment(environment: Environment) -> dict[str, str]:
    """Make the environment unless it is there already; return package -> version. Raises `SetupError`."""
    record = _read_record(environment)
    if record is not None:
        return record
    print(f"setting up {environment.name} (a compiled peer takes minutes)", file=sys.stderr)
    shutil.rmtree(environment.folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(environment.folder)], environment)
    for step in environment.pip_steps:
        _run([str(environment.python), "-m", "pip", "install", "--quiet", *step], environment)
    versions = _installed_versions(environment)
    environment.record.write_text(json.dumps({"recipe": _recipe(environment), "versions": versions}, indent=1))
    return versions


def _recipe(environment: Environment) -> dict[str, Any]:
    """Return the recipe as JSON gives it back (lists, no tuples), so that it can be compared with a stored one."""
    recipe: dict[str, Any] = json.loads(json.dumps(asdict(environment)))
    return recipe


def _read_record(environment: Environment) -> dict[str, str] | None:
    """Return the versions of a finished environment with the same recipe, else None."""
    try:
        record = json.loads(environment.record.read_text())
    except (OSError, json.JSONDecodeError):
        return None
    if record.get("recipe") != _recipe(environment) or not environment.python.exists():
        return None
    versions: dict[str, str] = record["versions"]
    return versions


def _installed_versions(environment: Environment) -> dict[str, str]:
    listing = _run([str(environment.python), "-m", "pip", "list", "--format", "json"], environment)
    return {package["name"]: package["version"] for package in json.loads(listing)}


def _run(command: list[str], environment: Environment) -> str:
    """Run one setup step and return its output. Raises `SetupError` with the last line it printed."""
    variables = os.environ | dict(environment.variables)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
        raise SetupError(f"{environment.name}: {' '.join(command[1:4])} failed: {last_line}")
    return done.stdout
