"""A teacher's likeliest next tokens, on disk: computed once, read by every run, whatever engine the teacher has.

Per labelled token the ``n_top`` largest logits and, as one number, what all others add up to:
``tail = log(sum of exp(logit / T))`` over the rest of the vocabulary. The tail depends on the temperature T, so a cache
belongs to one. Files hold ``ITEMS_PER_FILE`` sequences each, 8 * n_top + 4 bytes per token; a broken run goes on behind
the last whole file, and one file and one piece of full logits are in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from madang.core.engine import LogitSource
from madang.core.errors import EngineError, InvalidRequest
from madang.core.writing import replacing, require_disk, within_disk, write_atomically
from madang.training.examples.encoding import NO_LOSS, Encoded

ITEMS_PER_FILE: Final = 32
_INDEX: Final = "teacher.json"
_VERSION: Final = 1

Floats = npt.NDArray[np.float32]


class TeacherRows(NamedTuple):
    """Of n labelled tokens: the k likeliest words before each, their logits, and the rest. [n, k], [n, k], [n]."""

    words: npt.NDArray[np.int32]
    logits: Floats
    tail: Floats


def labelled(item: Encoded) -> npt.NDArray[np.int64]:
    """The positions whose next token is learnt, ascending."""
    positions: npt.NDArray[np.int64] = np.flatnonzero(item.labels[1:] != NO_LOSS)
    return positions


def digest_items(items: Sequence[Encoded]) -> str:
    """SHA-256 of sequences and their labels: others have another."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(len(item.input_ids).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(item.input_ids, "<i4").tobytes())
        digest.update(np.ascontiguousarray(item.labels, "<i4").tobytes())
    return digest.hexdigest()


class TeacherLogits:
    """The rows of some sequences, by their number; of others while ``teacher`` is open."""

    def __init__(self, folder: Path, items: Sequence[Encoded], teacher: LogitSource, facts: Mapping[str, Any]) -> None:
        self.name, self.n_top, self.temperature = (facts[key] for key in ("teacher", "n_top", "temperature"))
        self._teacher = teacher
        counts = [len(labelled(item)) for item in items]
        self._files = [_file(folder, begin) for begin in range(0, len(items), ITEMS_PER_FILE)]
        self._ends = np.cumsum([0, *counts])

    def __getitem__(self, number: int) -> TeacherRows:
        """Of the sequence with that number. Raises OSError where a file is gone."""
        first = number // ITEMS_PER_FILE * ITEMS_PER_FILE
        rows = np.load(self._files[number // ITEMS_PER_FILE], mmap_mode="r", allow_pickle=False)
        begin, end = self._ends[[number, number + 1]] - self._ends[first]
        return _as_rows(rows[begin:end])

    def score(self, item: Encoded) -> TeacherRows:
        """Computed now, and not kept. Raises EngineError."""
        return _as_rows(_rows(self._teacher, item, self.n_top, self.temperature))


def _as_rows(records: npt.NDArray[Any]) -> TeacherRows:
    return TeacherRows(np.array(records["words"]), np.array(records["logits"]), np.array(records["tail"]))


def keep_teacher_logits(
    folder: Path,
    teacher: LogitSource,
    items: Sequence[Encoded],
    *,
    teacher_name: str,
    n_top: int = 64,
    temperature: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TeacherLogits:
    """Compute what is not in ``folder`` yet.

    teacher_name   what tells this teacher from others: a file's SHA-256, or its name
    progress       is told the sequences that are done, and all

    Raises InvalidRequest when the folder belongs to other sequences, another teacher, or another setting, NotEnoughDisk
    before anything is computed, and EngineError for logits that are no numbers or a vocabulary smaller than ``n_top``.
    """
    if n_top < 1 or not temperature > 0:
        raise InvalidRequest("A teacher's cache needs at least 1 word per token and a temperature above 0.")
    facts = _facts(items, teacher_name, n_top, temperature)
    _claim(folder, facts)
    record = _record(n_top)
    missing = [begin for begin in range(0, len(items), ITEMS_PER_FILE) if not _file(folder, begin).exists()]
    n_rows = sum(len(labelled(item)) for begin in missing for item in items[begin : begin + ITEMS_PER_FILE])
    require_disk(folder, n_rows * record.itemsize)
    for begin in missing:
        group = items[begin : begin + ITEMS_PER_FILE]
        rows = np.concatenate([_rows(teacher, item, n_top, temperature) for item in group])
        with within_disk(folder, rows.nbytes), replacing(_file(folder, begin)) as path, path.open("xb") as file:
            np.save(file, rows, allow_pickle=False)
        progress(begin + len(group), len(items))
    return TeacherLogits(folder, items, teacher, facts)


def _file(folder: Path, begin: int) -> Path:
    return folder / f"rows-{begin:08d}.npy"


def _record(n_top: int) -> np.dtype[Any]:
    return np.dtype([("words", "<i4", (n_top,)), ("logits", "<f4", (n_top,)), ("tail", "<f4")])


def _facts(items: Sequence[Encoded], teacher_name: str, n_top: int, temperature: float) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "teacher": teacher_name,
        "sequences": len(items),
        "sequences_sha256": digest_items(items),
        "n_top": n_top,
        "temperature": temperature,
    }


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """The folder is this run's, or nobody's."""
    index = folder / _INDEX
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(index, json.dumps(facts, indent=2) + "\n")
        return
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    if not isinstance(found, dict) or found != facts:
        names = facts if not isinstance(found, dict) else [key for key in facts if found.get(key) != facts[key]]
        raise InvalidRequest(
            f"{folder} holds a teacher's logits for something else: another {', '.join(names)}.",
            param="cache",
            hint="Name another folder, or remove this one.",
        )


def _rows(teacher: LogitSource, item: Encoded, n_top: int, temperature: float) -> npt.NDArray[Any]:
    """Those of one sequence; full logits are seen a piece at a time."""
    wanted = labelled(item)
    rows = np.empty(len(wanted), _record(n_top))
    if not len(wanted):
        return rows
    position = done = 0
    for piece in teacher.logits(item.input_ids[: wanted[-1] + 1].tolist()):
        own = wanted[(wanted >= position) & (wanted < position + len(piece))] - position
        if len(own):
            rows[done : done + len(own)] = _shortened(np.asarray(piece)[own], n_top, temperature)
        position, done = position + len(piece), done + len(own)
    if done != len(wanted):
        raise EngineError(f"The teacher gave logits for {done} of {len(wanted)} tokens.")
    return rows


def _shortened(logits: Floats, n_top: int, temperature: float) -> npt.NDArray[Any]:
    if logits.shape[1] < n_top:
        raise EngineError(f"The teacher knows {logits.shape[1]} words, and {n_top} of them are to be kept.")
    if not np.isfinite(logits).all():
        raise EngineError("The teacher's logits are not all finite numbers.")
    rows = np.empty(len(logits), _record(n_top))
    words = np.argpartition(-logits, n_top - 1, axis=1)[:, :n_top]
    rows["words"], rows["logits"] = words, np.take_along_axis(logits, words, axis=1)
    rest = logits / np.float32(temperature)
    largest = rest.max(axis=1, keepdims=True)
    np.put_along_axis(rest, words, -np.inf, axis=1)
    sums = np.exp(rest - largest).sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):  # nothing is left where all words are kept
        rows["tail"] = np.log(sums) + largest[:, 0]
    return rows
