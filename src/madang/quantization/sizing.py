"""From a model file to one of at most so many bytes that loses least, with the proof beside it.

Everything measured lies in a work folder until the file is there, so that a call that was interrupted goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from madang import __version__
from madang.core.errors import InvalidRequest
from madang.core.units import format_bytes
from madang.core.writing import replacing, write_atomically
from madang.formats.gguf import GGUFFile, read_gguf
from madang.formats.gguf_writing import (
    TensorToWrite,
    ValueToWrite,
    WrittenFile,
    copied_tensor,
    gguf_bytes,
    write_gguf,
)
from madang.formats.reading import OpenFile
from madang.hardware import probe_machine
from madang.native import MutableModel
from madang.quantization.budget import MAX_ROUNDS, SELECTION, BudgetSearch, Tell
from madang.quantization.certificate import (
    BUDGET,
    CERTIFIED_PRESETS,
    HELD_OUT,
    Contestant,
    Verdict,
    certify,
    largest,
)
from madang.quantization.counting import Counting, file_bytes, in_memory
from madang.quantization.divergence import cut
from madang.quantization.importance import Grams, Importance, measure_importance, read_importance, write_importance
from madang.quantization.journal import Journal
from madang.quantization.matrices import QuantizableMatrix, quantizable_matrices
from madang.quantization.presets import PRESETS, ModelFacts, preset_types
from madang.quantization.screen import Encoder, possible_types
from madang.quantization.workbench import Workbench

IMPORTANCE: Final = "importance"
IMPORTANCE_CHUNKS: Final = 32
SELECTION_CHUNKS, SELECTION_TOKENS = 8, 256
HELD_OUT_CHUNKS: Final = 16
CHUNK_TOKENS: Final = 512
MAX_GRAM_COLUMNS: Final = 4096  # beyond, a matrix is rounded without feedback: it would take minutes and gigabytes
MAX_GRAM_BYTES: Final = 4 << 30  # of all matrices; those that come later are rounded without
_SELECTION_SHARE: Final = 0.2  # of the calibration text; the rest is for importance
_QUANTIZATION_VERSION: Final = 2
_MIXED_FILE_TYPE: Final = 1024
_HASHED_BYTES: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """What importance and choices are measured on, and what certifies them: two texts, or parts of one."""

    name: str
    calibration: str
    held_out: str

    @classmethod
    def split(cls, name: str, text: str) -> CalibrationText:
        """The last quarter certifies."""
        at = len(text) * 3 // 4
        return cls(name, text[:at], text[at:])


@dataclass(frozen=True, slots=True)
class Work:
    """Where what is measured lies meanwhile, and how much of it there is.

    n_rounds   of trades between groups of matrices, at most
    is_kept    leave all of it there, for other sizes of the same model
    """

    folder: Path
    n_threads: int
    n_rounds: int = MAX_ROUNDS
    is_kept: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A written file, and its certificate."""

    written: WrittenFile
    verdict: Verdict
    certificate: Mapping[str, Any]


def quantize_to_size(
    source: Path,
    target: Path,
    size_bytes: int,
    text: CalibrationText,
    *,
    work: Work,
    tell: Tell = lambda what, done, total: None,
    is_loaded: bool = False,
) -> Made:
    """Write ``target``, at most ``size_bytes``, and ``target`` with ``.certificate.json`` behind its name.

    Where it ``is_loaded``, these are bytes of weights in the native engine's memory, and the file has what it has.
    Raises InvalidRequest when nothing is so small or the text is too short, NotEnoughDisk, and what reading the source
    and writing the target raise. Until all of the new file is there, an old one stays.
    """
    file = read_gguf(source)
    hashes = {"source_sha256": hash_file(source), **_text_hashes(text)}
    key = json.dumps({**hashes, "madang": __version__} | ({"counted": "memory"} if is_loaded else {}), sort_keys=True)
    folder = work.folder / sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    model = MutableModel(source, work.n_threads)
    matrices = quantizable_matrices(file, model.description)
    if not matrices:
        raise InvalidRequest(f"{source.name} has no matrices that could be quantized.", param="source")
    in_file = Counting("file", fixed_bytes(file, matrices), file_bytes)
    counted = in_memory(model.description, matrices) if is_loaded else in_file
    _require_possible(size_bytes, counted, matrices)
    chunks = chunks_of(model, text)
    importance, grams = _importance(model, chunks[IMPORTANCE], text.name, folder, tell)
    encoder = Encoder(folder / "encoded", importance.mean_squares, grams, n_threads=work.n_threads)
    texts = {name: chunks[name] for name in (SELECTION, HELD_OUT)}
    n_layers = model.description.spec.n_layers
    bench = Workbench(model, matrices, encoder, texts, folder)
    journal = Journal(folder / "measured.jsonl")
    search = BudgetSearch(matrices, encoder, bench, journal, n_layers, work.n_rounds, counted.matrix_bytes, tell)
    found = search.run(size_bytes - counted.fixed_bytes)
    budget = Contestant(BUDGET, found.mix, True, in_file.total_bytes(matrices, found.mix))
    presets = preset_contestants(file, matrices, in_file)
    fitting = [preset for preset in presets if counted.total_bytes(matrices, preset.mix) <= size_bytes]
    ranked = sorted(largest(fitting), key=lambda preset: _selection_kl(bench, journal, preset))
    verdict = certify(budget, ranked[:CERTIFIED_PRESETS], bench)
    written = write_mix(file, target, matrices, encoder, verdict.chosen)
    selection = {preset.name: _selection_kl(bench, journal, preset) for preset in ranked} | {BUDGET: found.mean_kl}
    certificate = {
        "made": _made(model),
        **hashes,
        "text": text.name,
        f"{'memory' if is_loaded else 'size'}_limit_bytes": size_bytes,
        "loaded_bytes": in_memory(model.description, matrices).total_bytes(matrices, verdict.chosen.mix),
        **_findings(written, verdict, search),
        "selection_kl": selection,
    }
    write_atomically(certificate_path(target), json.dumps(certificate, indent=1) + "\n")
    if not work.is_kept:
        shutil.rmtree(folder, ignore_errors=True)  # Windows keeps what is still mapped
    return Made(written, verdict, certificate)


def _require_possible(size_bytes: int, counted: Counting, matrices: Sequence[QuantizableMatrix]) -> None:
    """Before anything is measured."""
    smallest = counted.fixed_bytes + sum(
        min(counted.matrix_bytes(matrix, tensor_type) for tensor_type in possible_types(matrix)) for matrix in matrices
    )
    if size_bytes < smallest:
        room = "A file" if counted.name == "file" else "Memory for weights"
        raise InvalidRequest(
            f"{room} of {format_bytes(size_bytes)} is too small: the smallest that this model fits into has "
            f"{smallest} bytes ({format_bytes(smallest)}).",
            param="size",
            hint="Ask for that, or choose a smaller model.",
        )


def _findings(written: WrittenFile, verdict: Verdict, search: BudgetSearch) -> dict[str, Any]:
    return {
        "size_bytes": written.size_bytes,
        "sha256": written.sha256,
        "held_out": verdict.to_dict(),
        "rounds": [{"mean_kl": own.mean_kl, "expected_kl": own.expected_kl} for own in search.rounds],
        "tensors": {matrix.name: verdict.chosen.mix[matrix.name].name for matrix in search.matrices},
    }


def _made(model: MutableModel) -> dict[str, Any]:
    """When, with what and on what."""
    machine = probe_machine(gpus=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "madang": __version__,
        "engine": f"native {model.isa}, activations of 15 bits",
        "machine": {"cpu": machine.cpu, "architecture": machine.architecture, "system": machine.system},
    }


def certificate_path(target: Path) -> Path:
    """Beside the file."""
    return target.with_name(target.name + ".certificate.json")


def size_of_bits(file: GGUFFile, bits: float) -> int:
    """Bytes of a file whose weights have so many bits on average."""
    return round(sum(tensor.n_elements for tensor in file.tensors.values()) * bits / 8)


def preset_contestants(file: GGUFFile, matrices: Sequence[QuantizableMatrix], in_file: Counting) -> list[Contestant]:
    """Every preset of quantized types, with importance, as llama.cpp's users know it."""
    facts, names = ModelFacts.of(file), {matrix.name for matrix in matrices}
    found = []
    for name, preset in PRESETS.items():
        if preset.base.block_elements > 1:
            types = preset_types(preset, list(file.tensors.values()), facts, has_importance=True)
            mix = {tensor: own for tensor, own in types.items() if tensor in names}
            found.append(Contestant(name, mix, False, in_file.total_bytes(matrices, mix)))
    return found


def fixed_bytes(file: GGUFFile, matrices: Sequence[QuantizableMatrix]) -> int:
    """Of a file with these matrices, what they do not take: header and other tensors."""
    whole = gguf_bytes(_metadata(file, _MIXED_FILE_TYPE), [copied_tensor(own) for own in file.tensors.values()])
    return whole - sum(file_bytes(matrix, matrix.tensor.type) for matrix in matrices)


def _metadata(file: GGUFFile, file_type: int) -> dict[str, ValueToWrite]:
    return {
        **file.typed_metadata,
        "general.file_type": np.uint32(file_type),
        "general.quantization_version": np.uint32(_QUANTIZATION_VERSION),
    }


def _selection_kl(bench: Workbench, journal: Journal, preset: Contestant) -> float:
    return journal.figure(
        f"preset {preset.name}", lambda: bench.measure(preset.mix, SELECTION, feedback=preset.feedback).mean
    )


def write_mix(
    file: GGUFFile, target: Path, matrices: Sequence[QuantizableMatrix], encoder: Encoder, chosen: Contestant
) -> WrittenFile:
    """The file with these matrices in their types. Raises what ``write_gguf`` raises."""
    by_name = {matrix.name: matrix for matrix in matrices}

    def encoded(matrix: QuantizableMatrix) -> npt.NDArray[np.uint8]:
        return encoder.encode(matrix, chosen.mix[matrix.name], feedback=chosen.feedback).reshape(-1)

    tensors = [
        copied_tensor(tensor)
        if name not in by_name
        else TensorToWrite(name, chosen.mix[name], tensor.shape, lambda own=by_name[name]: encoded(own))  # type: ignore[misc]
        for name, tensor in file.tensors.items()
    ]
    preset = PRESETS.get(chosen.name)
    file_type = _MIXED_FILE_TYPE if preset is None else preset.file_type
    return write_gguf(target, _metadata(file, file_type), tensors)


# ---- texts


def python_documentation() -> str:
    """English text about programming that every Python brings along: the calibration text where no other is given.

    Raises InvalidRequest where the system's Python comes without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InvalidRequest(
            "This Python has no documentation of its own to calibrate with.",
            param="text",
            hint="Give a text: --text FILE.",
        ) from error
    return "\n\n".join(topics[name] for name in sorted(topics))


def chunks_of(model: MutableModel, text: CalibrationText) -> dict[str, list[list[int]]]:
    """What is measured on which tokens: "importance", "selection" and "held-out"."""
    tokens, held_out = model.tokenize(text.calibration), model.tokenize(text.held_out)
    at = round(len(tokens) * (1 - _SELECTION_SHARE))
    return {
        IMPORTANCE: cut(tokens[:at], CHUNK_TOKENS, at_most=IMPORTANCE_CHUNKS),
        SELECTION: cut(tokens[at:], SELECTION_TOKENS, at_most=SELECTION_CHUNKS),
        HELD_OUT: cut(held_out, CHUNK_TOKENS, at_most=HELD_OUT_CHUNKS),
    }


def _text_hashes(text: CalibrationText) -> dict[str, str]:
    return {
        "calibration_sha256": sha256(text.calibration.encode()).hexdigest(),
        "held_out_sha256": sha256(text.held_out.encode()).hexdigest(),
    }


def hash_file(path: Path) -> str:
    """SHA-256 of its content."""
    digest = sha256()
    with OpenFile(path) as file:
        for start in range(0, file.size_bytes, _HASHED_BYTES):
            digest.update(file.read(start, min(_HASHED_BYTES, file.size_bytes - start)).data)
    return digest.hexdigest()


# ---- importance, kept


def _importance(
    model: MutableModel, chunks: Sequence[Sequence[int]], dataset: str, work: Path, tell: Tell
) -> tuple[Importance, Mapping[str, npt.NDArray[np.float32]]]:
    """Measured, or from the call before."""
    path, folder = work / "importance.gguf", work / "grams"
    if not path.exists():
        grams = Grams(MAX_GRAM_COLUMNS, MAX_GRAM_BYTES)
        found = measure_importance(
            model,
            chunks,
            dataset=dataset,
            grams=grams,
            progress=lambda done, total: tell("reading the text for importance", done, total),
        )
        shutil.rmtree(folder, ignore_errors=True)
        with replacing(folder) as unfinished:
            unfinished.mkdir()
            grams.save(unfinished)
        write_importance(path, found)
    return read_importance(path), Grams.load(folder)
