"""A file of at most so many bytes, its certificate, and what happens when work is interrupted or gains nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from madang.core.errors import InvalidRequest
from madang.formats.gguf import read_gguf
from madang.formats.tensors import TensorType
from madang.native import MutableModel
from madang.quantization.budget import Tell
from madang.quantization.certificate import Contestant, certify
from madang.quantization.divergence import Divergence, cut, measure
from madang.quantization.sizing import CalibrationText, Made, certificate_path, quantize_to_size, size_of_bits

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "then",
    "it",
    "sleeps",
    "under",
    "some",
    "tree",
]


def text(seed: int, n_words: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, n_words))


TEXT = CalibrationText("words", text(0, 4000), text(1, 1000))


def silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def run(source: Path, target: Path, work: Path, size_bytes: int, tell: Tell = silent) -> Made:
    return quantize_to_size(source, target, size_bytes, TEXT, work_folder=work, n_threads=1, tell=tell)


@pytest.fixture(scope="module")
def size_bytes(tiny_gguf: Path) -> int:
    """Of 7 bits per weight: the header of so small a model takes a good part."""
    return size_of_bits(read_gguf(tiny_gguf), 7) + 8192


@pytest.fixture(scope="module")
def made(tiny_gguf: Path, size_bytes: int, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    found = run(tiny_gguf, folder / "small.gguf", folder / "work", size_bytes)
    assert not list((folder / "work").iterdir())  # nothing is left behind
    return found


def test_the_file_fits_and_is_what_the_certificate_says(made: Made, tiny_gguf: Path, size_bytes: int) -> None:
    path = made.written.path
    assert 0.9 * size_bytes < path.stat().st_size <= size_bytes
    proof = json.loads(certificate_path(path).read_text())
    assert proof["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert proof["source_sha256"] == sha256(tiny_gguf.read_bytes()).hexdigest()
    assert proof["held_out_sha256"] == sha256(TEXT.held_out.encode()).hexdigest()
    written = read_gguf(path)
    assert {name: written.tensors[name].type.name for name in proof["tensors"]} == proof["tensors"]
    chosen = proof["held_out"]["contestants"][0]
    assert proof["held_out"]["written"] == chosen["name"] == "budget"
    assert chosen["size_bytes"] == path.stat().st_size
    reference, other = MutableModel(tiny_gguf, 1), MutableModel(path, 1)
    chunks = cut(reference.tokenize(TEXT.held_out), 512, at_most=16)
    assert measure(reference, other, chunks).mean == pytest.approx(chosen["mean_kl"], rel=1e-6)


def test_it_beats_the_presets_of_its_size(made: Made) -> None:
    others = made.verdict.found[1:]
    assert others
    assert all(made.verdict.found[0].mean < other.mean for other in others)
    assert all(interval.low > 0 for interval in made.verdict.reductions.values())
    assert all(own.size_bytes <= made.certificate["size_limit_bytes"] for own in made.verdict.contestants)


class WorkInterrupted(Exception):
    """In the middle of the work."""


def test_interrupted_work_goes_on(tiny_gguf: Path, size_bytes: int, made: Made, tmp_path: Path) -> None:
    seen: list[str] = []

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "measuring groups":
            raise WorkInterrupted

    target = tmp_path / "small.gguf"
    target.write_text("an old file")
    with pytest.raises(WorkInterrupted):
        run(tiny_gguf, target, tmp_path / "work", size_bytes, tell=interrupt)
    assert target.read_text() == "an old file"
    again = run(tiny_gguf, target, tmp_path / "work", size_bytes, tell=lambda what, done, total: seen.append(what))
    assert "reading the text for importance" not in seen  # that is kept
    assert again.written.sha256 == made.written.sha256


def test_a_budget_that_nothing_meets(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is too small: the smallest that this model fits into has") as caught:
        run(tiny_gguf, tmp_path / "small.gguf", tmp_path / "work", 10_000)
    smallest = int(caught.value.message.rpartition("has ")[2].split()[0])
    assert run(tiny_gguf, tmp_path / "small.gguf", tmp_path / "work", smallest).written.size_bytes <= smallest


def test_a_text_that_is_too_short(tiny_gguf: Path, size_bytes: int, tmp_path: Path) -> None:
    short = CalibrationText("words", TEXT.calibration, "a few words")
    with pytest.raises(InvalidRequest, match="tokens, but a chunk needs 512"):
        quantize_to_size(
            tiny_gguf, tmp_path / "small.gguf", size_bytes, short, work_folder=tmp_path / "work", n_threads=1
        )


@dataclass
class FixedBench:
    """Knows the divergence of every mix."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, mix: dict[str, TensorType], text: str, *, feedback: bool) -> Divergence:
        (name,) = mix
        kl = np.array(self.found[name])
        rest = np.zeros(len(kl))
        return Divergence(kl, rest.astype(bool), rest, rest, tuple(range(1, len(kl) + 1)))


def contestants(*names: str) -> list[Contestant]:
    return [Contestant(name, {name: TensorType.Q4_K}, False, 100) for name in names]


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [([1.0, 1.1, 0.9, 1.2], "budget"), ([2.1, 1.0, 2.9, 1.0], "b"), ([4.0, 4.0, 4.0, 4.0], "b")],
    ids=["better", "perhaps", "worse"],
)
def test_what_is_not_certainly_better_is_not_written(budget: list[float], chosen: str) -> None:
    bench = FixedBench({"budget": budget, "a": [3.0, 3.1, 2.9, 3.0], "b": [2.0, 1.9, 1.8, 2.1]})
    own, *presets = contestants("budget", "a", "b")
    verdict = certify(own, presets, bench)  # type: ignore[arg-type]
    assert verdict.chosen.name == chosen
    assert verdict.is_budget == (chosen == "budget")
