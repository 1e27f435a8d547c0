"""From a Hugging Face folder to one in fewer bits for PyTorch, with the proof of what that lost.

bitsandbytes or GPTQModel do the work, in a process of its own (checkpoint_child.py). The folder appears under its name
when an engine has loaded it and measured it against its source.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from madang import __version__
from madang.core.engine import LogitSource
from madang.core.errors import CannotQuantize, EngineUnavailable, InvalidRequest, NotEnoughMemory
from madang.core.writing import replacing, require_disk, within_disk
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.json_object import read_json_object
from madang.formats.safetensors import read_safetensors
from madang.hardware import probe_machine
from madang.quantization.budget import Tell
from madang.quantization.checkpoint_types import CheckpointType, Method, Recipe, layer_matrices, settle_recipe
from madang.quantization.divergence import CHUNK_TOKENS, Divergence, KeptLogits, cut, fold, measure
from madang.quantization.sizing import CalibrationText, hash_file, text_hashes

CERTIFICATE_FILE: Final = "certificate.json"
# Of CHUNK_TOKENS. AWQ tries 20 scales and clips for each matrix, and looks at all of it each time.
CALIBRATION_CHUNKS: Final[Mapping[Method, int]] = {"bitsandbytes": 1, "gptq": 32, "awq": 8}
HELD_OUT_CHUNKS: Final = 16
_KEPT_BYTES: Final = 4 << 30  # of the source's logits, which decide how many chunks are measured
_REST_BYTES: Final = 64_000_000  # tokenizer and settings
_PROGRAM_BYTES: Final = 1_000_000_000  # the libraries themselves, measured at 0.6 to 0.9 GB
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".safetensors.index.json", ".bin.index.json")
_CHILD: Final = "madang.quantization.checkpoint_child"

OpenFolder = Callable[[Path], AbstractContextManager[LogitSource]]


@dataclass(frozen=True, slots=True, eq=False)
class MadeCheckpoint:
    """A written folder, and what was measured on held-out text."""

    size_bytes: int
    found: Divergence
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointJob:
    """What is to be made of which folder.

    bits, group_size   None for the usual ones
    text               calibrates the types that need it, and certifies
    open_folder        loads a folder with the engine that will run it
    work               a folder for what is needed meanwhile
    """

    source: Path
    type: CheckpointType
    text: CalibrationText
    open_folder: OpenFolder
    work: Path
    n_threads: int
    bits: float | None = None
    group_size: int | None = None


def quantize_checkpoint(
    job: CheckpointJob, target: Path, tell: Tell = lambda what, done, total: None
) -> MadeCheckpoint:
    """Write the folder ``target`` with its certificate.

    Raises EngineUnavailable for packages that are not there, InvalidRequest, CannotQuantize, NotEnoughDisk and
    NotEnoughMemory before anything is written, and what reading the source raises; nothing is at ``target`` then.
    """
    if target.exists():
        raise InvalidRequest(f"{target} exists already.", param="DST", hint="Remove it, or name another place.")
    require_packages(job.type)
    recipe = _settle(job)
    tensors = read_safetensors(job.source)
    needed_bytes = recipe.size_bytes(tensors) + _REST_BYTES
    _require_memory(job, recipe)
    require_disk(target.parent, needed_bytes)
    job.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.work, ignore_cleanup_errors=True) as scratch:
        reference, calibration, held_out = _read_source(job, Path(scratch))
        with within_disk(target.parent, needed_bytes), replacing(target) as folder:
            made = folder / "made"  # on the same disk
            made.mkdir(parents=True)
            packages = _make(job, recipe, calibration, made, tell)
            _assemble(job.source, made, folder)
            with job.open_folder(folder) as engine:
                found = _measure(reference, engine, held_out, tell)
            certificate = {**_facts(job, recipe, packages, folder), "held_out": found.to_dict()}
            _write_json(folder / CERTIFICATE_FILE, certificate)
    return MadeCheckpoint(sum(one.stat().st_size for one in target.iterdir()), found, certificate)


def require_packages(chosen: CheckpointType) -> None:
    """Raise EngineUnavailable with the command that installs what is missing."""
    missing = [package for package in chosen.packages if find_spec(package) is None]
    if missing:
        raise EngineUnavailable(
            f"--type {chosen.name} needs {' and '.join(missing)}, which cannot be imported here.",
            hint=f"Install it with: pip install 'madang[{chosen.extra}]'",
        )


def _settle(job: CheckpointJob) -> Recipe:
    config = read_json_object(job.source / CONFIG_FILE, MAX_CONFIG_BYTES)
    own = config.get("quantization_config")
    if own is not None:
        method = own.get("quant_method") if isinstance(own, dict) else None
        raise CannotQuantize(
            f"the source is quantized already, by {str(method)[:40]}", hint="Take the model before it was quantized."
        )
    tensors = read_safetensors(job.source)
    return settle_recipe(job.type, tensors, bits=job.bits, group_size=job.group_size)


def _require_memory(job: CheckpointJob, recipe: Recipe) -> None:
    """For the process that does it; measuring needs less than GPTQ and about what loading needs."""
    available_bytes = probe_machine(gpus=False).ram_available_bytes
    needed_bytes = _PROGRAM_BYTES + needed_memory_bytes(job, recipe)
    if available_bytes is not None and needed_bytes > available_bytes:
        raise NotEnoughMemory(
            f"Quantizing {job.source.name} to {recipe.name}",
            needed_bytes,
            available_bytes,
            hint="Close other programs, or write GGUF (--type Q4_K_M), which takes a few megabytes at a time.",
        )


def needed_memory_bytes(job: CheckpointJob, recipe: Recipe) -> int:
    """Weights in floats beside the new ones; for GPTQ and AWQ also a layer's input products and what it reads."""
    tensors = read_safetensors(job.source)
    n_weights = sum(tensor.n_elements for tensor in tensors.values())
    source_bytes = sum(tensor.size_bytes for tensor in tensors.values())
    if not recipe.type.needs_calibration:
        return source_bytes + recipe.size_bytes(tensors)
    widest = max(matrix.shape[1] for matrix in layer_matrices(tensors))
    n_tokens = CALIBRATION_CHUNKS[recipe.type.method] * CHUNK_TOKENS
    weights_bytes = (4 if recipe.type.method == "gptq" else 2) * n_weights
    return weights_bytes + recipe.size_bytes(tensors) + 3 * 4 * widest**2 + 8 * n_tokens * widest


# ---- the source


def _read_source(job: CheckpointJob, scratch: Path) -> tuple[KeptLogits, list[list[int]], list[list[int]]]:
    """Its logits of the held-out text, and the texts as chunks of tokens."""
    with job.open_folder(job.source) as engine:
        calibration = cut(engine.tokenize(job.text.calibration), at_most=CALIBRATION_CHUNKS[job.type.method])
        n_words = next(iter(engine.logits(calibration[0][:1]))).shape[1]
        n_chunks = max(1, min(HELD_OUT_CHUNKS, _KEPT_BYTES // (4 * n_words * CHUNK_TOKENS)))
        held_out = cut(engine.tokenize(job.text.held_out), at_most=n_chunks)
        return KeptLogits(scratch / "source", engine, held_out, n_words), calibration, held_out


def _measure(reference: LogitSource, engine: LogitSource, chunks: Sequence[list[int]], tell: Tell) -> Divergence:
    parts = []
    for number, chunk in enumerate(chunks):
        tell("measuring what was lost", number, len(chunks))
        parts.append(measure(reference, engine, [chunk]))
    return fold(parts)


# ---- the process


def _make(
    job: CheckpointJob, recipe: Recipe, calibration: Sequence[Sequence[int]], target: Path, tell: Tell
) -> Mapping[str, str]:
    """Let it write ``target``; versions of the packages that did. Raises CannotQuantize with what they say."""
    options = {
        **recipe.to_dict(),
        "source": str(job.source.absolute()),
        "target": str(target.absolute()),
        "method": recipe.type.method,
        "n_threads": job.n_threads,
        "chunks": calibration if recipe.type.needs_calibration else [],
    }
    what = f"quantizing to {recipe.name}"
    tell(what, 0, 1)
    log = target / "log.txt"
    with log.open("wb") as errors, _child(errors, target) as (stdin, answers):
        stdin.write(json.dumps(options).encode() + b"\n")
        stdin.flush()
        for line in answers:
            told = json.loads(line)
            if "packages" in told:
                found: Mapping[str, str] = told["packages"]
                return found
            if "error" in told:
                raise CannotQuantize(f"{' and '.join(recipe.type.packages[-1:])} says: {told['error']}")
            tell(what, told["done"], told["total"])
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["it was killed"]
    raise CannotQuantize(
        f"the process that did it ended ({last[0][:200]})",
        hint="Systems end processes when memory runs out: close other programs, or write GGUF (--type Q4_K_M).",
    )


@contextmanager
def _child(errors: IO[bytes], folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """In that folder, where GPTQModel leaves files that nobody asked for."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # GPTQModel's own choice for one or two processors is one too few for it (7.6).
        "GPTQMODEL_CPU_WORKERS": os.environ.get("GPTQMODEL_CPU_WORKERS", str(max(2, (os.cpu_count() or 1) // 2))),
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        cwd=folder,
    )
    assert process.stdin is not None and process.stdout is not None  # both are pipes
    try:
        yield process.stdin, process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


# ---- the folder


def _assemble(source: Path, made: Path, folder: Path) -> None:
    """The new weights, and all else as the source has it: libraries write tokenizers and settings in their own way."""
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.endswith(_WEIGHTS) and path.name != CERTIFICATE_FILE:
            shutil.copyfile(path, folder / path.name)
    for path in sorted(made.iterdir()):
        if path.name.endswith((".safetensors", ".safetensors.index.json")):
            path.rename(folder / path.name)
            shutil.copymode(folder / CONFIG_FILE, folder / path.name)  # libraries write it for its owner only
    config = read_json_object(source / CONFIG_FILE, MAX_CONFIG_BYTES)
    quantization = read_json_object(made / CONFIG_FILE, MAX_CONFIG_BYTES)["quantization_config"]
    _write_json(folder / CONFIG_FILE, {**config, "quantization_config": quantization})
    shutil.rmtree(made)


def _facts(job: CheckpointJob, recipe: Recipe, packages: Mapping[str, str], folder: Path) -> dict[str, Any]:
    machine = probe_machine(gpus=False)
    return {
        "made": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "madang": __version__,
            **packages,
            "machine": {"cpu": machine.cpu, "architecture": machine.architecture, "system": machine.system},
        },
        **recipe.to_dict(),
        "text": job.text.name,
        **text_hashes(job.text),
        "source_sha256": _weight_hashes(job.source),
        "sha256": _weight_hashes(folder),
    }


def _weight_hashes(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in sorted(folder.glob("*.safetensors"))}


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="")
