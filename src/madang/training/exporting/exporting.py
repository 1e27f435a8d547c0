"""From a trained model to files that others run, each compared with the trained model before it is kept.

fold --> write the kind into a work folder --> gate --> rename into place. A gate that fails leaves what was there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from madang import __version__
from madang.conversion import to_gguf
from madang.conversion.adapters import adapter_to_gguf
from madang.core.errors import InvalidRequest
from madang.core.writing import put, require_disk, within_disk, write_atomically
from madang.formats.adapters.peft import WEIGHTS_FILE
from madang.formats.folder import CONFIG_FILE, MAX_CONFIG_BYTES
from madang.formats.gguf import read_gguf
from madang.formats.json_object import read_json_object
from madang.formats.safetensors import read_safetensors
from madang.models.files import read_generation_config
from madang.quantization.presets import ModelFacts, find_preset, preset_types
from madang.quantization.quantizing import quantize_file
from madang.quantization.sizing import CalibrationText, Work, certificate_path, hash_file, quantize_to_size
from madang.training.exporting.apple import write_mlx
from madang.training.exporting.bounds import BOUNDS, Bound, bound_of_bits, bound_of_type
from madang.training.exporting.card import model_card
from madang.training.exporting.folding import fold_adapter, require_fitting
from madang.training.exporting.graph import write_onnx
from madang.training.exporting.kinds import Kind, require_packages
from madang.training.exporting.modelfile import modelfile, turns_of
from madang.training.exporting.parity import ParityReport, Reference, bounded, check_parity, read_report
from madang.training.exporting.sides import MlxSide, NativeSide, OnnxSide, Side, TorchSide
from madang.training.exporting.trained import Trained

MODELFILE: Final = "Modelfile"
CARD: Final = "README.md"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """One thing that was written; ``parity`` is None for what holds no weights."""

    kind: str
    path: Path
    size_bytes: int
    parity: ParityReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        report = None if self.parity is None else self.parity.to_dict()
        return {"kind": self.kind, "path": str(self.path), "size_bytes": self.size_bytes, "parity": report}


@dataclass(frozen=True, slots=True)
class Options:
    """How exports are made.

    text       prose of the model's own field: held out for the gate, and what ``gguf:SIZE`` is measured on
    max_kl     allowed in place of the type's own bound, nats per token
    """

    n_threads: int
    text: str | None = None
    max_kl: float | None = None


def export(
    trained: Trained,
    kinds: Sequence[Kind],
    target: Path,
    options: Options,
    *,
    tell: Tell = lambda sentence: None,
) -> list[Exported]:
    """Write all ``kinds`` into the folder ``target``, which need not exist.

    Raises InvalidRequest for a name that is taken there and for what cannot be, ParityFailed for an export that is not
    the trained model, CannotConvert, EngineUnavailable, NotEnoughDisk; what was exported before stays, the failed one
    leaves nothing.
    """
    _require_possible(trained, kinds, target, options)
    places = [(kind, target / _name(trained, kind)) for kind in kinds]
    for _, place in places:
        if place.exists():
            raise InvalidRequest(f"{place} exists already.", param="out", hint="Remove it, or name another --out.")
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    done: list[Exported] = []
    try:
        with within_disk(target), TemporaryDirectory(prefix=".exporting-", dir=target) as work:
            maker = _Maker(trained, Path(work), target, options, tell)
            for kind, place in sorted(places, key=lambda own: own[0].name in _WITHOUT_WEIGHTS):
                done.append(maker.make(kind, place, done))
    finally:
        if is_new and not any(target.iterdir()):
            target.rmdir()
    return done


_WITHOUT_WEIGHTS: Final = ("modelfile", "card")


def _require_possible(trained: Trained, kinds: Sequence[Kind], target: Path, options: Options) -> None:
    """What can be said before minutes of work."""
    require_packages(kinds)
    if trained.adapter is not None:
        require_fitting(trained.folder, trained.adapter)
    if not {kind.name for kind in kinds} <= {"adapter", *_WITHOUT_WEIGHTS}:
        require_disk(target, sum(tensor.size_bytes for tensor in read_safetensors(trained.folder).values()))
    if trained.adapter is None and any(kind.name == "adapter" for kind in kinds):
        raise InvalidRequest(
            f"{trained.name} has no adapter: all of its weights were trained.",
            param="to",
            hint="Export it whole: --to gguf:Q8_0 or --to safetensors.",
        )
    if options.text is None and any(kind.size_bytes is not None for kind in kinds):
        raise InvalidRequest(
            "A size is reached by measuring which matrices matter, which needs text.",
            param="text",
            hint="Give some of what the model is for: --text FILE.",
        )


def _name(trained: Trained, kind: Kind) -> str:
    detail = "" if kind.detail is None else f"-{kind.detail}"
    names = {
        "adapter": "adapter" if kind.detail == "PEFT" else "adapter.gguf",
        "safetensors": f"model{detail.lower()}",
        "gguf": f"{trained.name}{detail}.gguf",
        "onnx": "onnx",
        "mlx": f"mlx{detail and detail + 'bit'}",
        "modelfile": MODELFILE,
        "card": CARD,
    }
    return names[kind.name]


@dataclass(slots=True)
class _Maker:
    """What the exports of one model have in common: the reference and the folded weights, each made once."""

    trained: Trained
    work: Path
    target: Path
    options: Options
    tell: Tell
    _reference: Reference | None = field(default=None, init=False)
    _merged: Path | None = field(default=None, init=False)

    @property
    def reference(self) -> Reference:
        """The trained side of every comparison."""
        if self._reference is None:
            self.tell("Asking the trained model, to compare exports with")
            self._reference = Reference(self.trained, self.work / "reference", text=self.options.text)
        return self._reference

    @property
    def merged(self) -> Path:
        """A folder of whole weights, each in its own dtype."""
        if self._merged is None:
            self.tell("Folding the adapter into its base" if self.trained.adapter else "Reading the weights")
            folder = self.work / "merged"
            fold_adapter(self.trained, folder)
            self._merged = folder
        return self._merged

    def make(self, kind: Kind, place: Path, before: Sequence[Exported]) -> Exported:
        """Write, compare, and put in place."""
        self.tell(f"Exporting {kind}")
        if kind.name == "card":
            rows = [(own.path.name, own.size_bytes, own.parity) for own in before]
            known = {name for name, _, _ in rows}
            rows += [row for row in _certified(self.target) if row[0] not in known]
            return self._text(kind, place, model_card(self.trained, rows))
        if kind.name == "modelfile":
            return self._text(kind, place, self._modelfile(before))
        writers: dict[str, Callable[[Kind, Path], tuple[Side, Bound]]] = {
            "adapter": self._adapter,
            "safetensors": self._safetensors,
            "gguf": self._gguf,
            "onnx": self._onnx,
            "mlx": self._mlx,
        }
        staged = self.work / "staged" / place.name
        staged.parent.mkdir(exist_ok=True)
        reference = self.reference
        side, bound = writers[kind.name](kind, staged)
        try:
            report = check_parity(reference, side, bounded(bound, self.options.max_kl))
        finally:
            side.close()
        if kind.name == "gguf":
            self._certify(kind, staged, report)
            certificate_path(staged).replace(certificate_path(place))
        put(staged, place)
        return Exported(str(kind), place, _size_bytes(place), report)

    # ---- each kind: write it, and say what reads it and how far it may be off

    def _adapter(self, kind: Kind, staged: Path) -> tuple[Side, Bound]:
        adapter = self.trained.adapter
        assert adapter is not None
        settings = self.work / "reference" / "settings"
        if kind.detail == "PEFT":
            shutil.copytree(adapter, staged, ignore=shutil.ignore_patterns("checkpoint*", "*.bin", "*.pt"))
            return TorchSide(self.trained.folder, staged, settings), BOUNDS["F32"]
        adapter_to_gguf(adapter, staged, self.trained.folder, "huggingface")
        native = NativeSide(self.trained.folder, self.options.n_threads, adapter=staged, settings=settings)
        return native, bound_of_type(_type_of(self.trained.folder))

    def _safetensors(self, kind: Kind, staged: Path) -> tuple[Side, Bound]:
        fold_adapter(self.trained, staged, kind.tensor_type)
        return TorchSide(staged), bound_of_type(_type_of(staged))

    def _gguf(self, kind: Kind, staged: Path) -> tuple[Side, Bound]:
        n_threads = self.options.n_threads
        if kind.detail is None or kind.tensor_type is not None:
            to_gguf(self.merged, staged, kind.tensor_type, name=self.trained.name, n_threads=n_threads)
            return NativeSide(staged, n_threads), bound_of_type(kind.detail or _type_of(self.merged))
        whole = self.work / "whole.gguf"
        if not whole.exists():
            to_gguf(self.merged, whole, name=self.trained.name, n_threads=n_threads)
        if kind.size_bytes is None:
            self._quantize(whole, staged, kind)
            return NativeSide(staged, n_threads), bound_of_type(str(kind.detail))
        text = CalibrationText.split("--text", str(self.options.text))
        quantize_to_size(whole, staged, kind.size_bytes, text, work=Work(self.work / "sizing", n_threads))
        n_weights = sum(tensor.n_elements for tensor in read_gguf(staged).tensors.values())
        return NativeSide(staged, n_threads), bound_of_bits(8 * staged.stat().st_size / n_weights)

    def _quantize(self, whole: Path, staged: Path, kind: Kind) -> None:
        source, preset = read_gguf(whole), find_preset(str(kind.detail))
        types = preset_types(preset, list(source.tensors.values()), ModelFacts.of(source), has_importance=False)
        quantize_file(source, staged, types, n_threads=self.options.n_threads, file_type=preset.file_type)

    def _onnx(self, kind: Kind, staged: Path) -> tuple[Side, Bound]:
        self._begin_folder(staged)
        write_onnx(self.merged, staged)
        return OnnxSide(staged, self.options.n_threads), bound_of_type(_type_of(self.merged))

    def _mlx(self, kind: Kind, staged: Path) -> tuple[Side, Bound]:
        self._begin_folder(staged)
        write_mlx(self.merged, staged, None if kind.detail is None else int(kind.detail))
        bound = _type_of(self.merged) if kind.detail is None else {"4": "Q4", "8": "Q8_0"}[kind.detail]
        return MlxSide(staged), bound_of_type(bound)

    def _begin_folder(self, staged: Path) -> None:
        """Everything but weights, which others write: they do not tell a full disk from another failure."""
        n_weights = sum(tensor.n_elements for tensor in read_safetensors(self.merged).values())
        require_disk(staged.parent, 4 * n_weights)
        staged.mkdir()
        self.trained.write_settings(staged)

    def _modelfile(self, before: Sequence[Exported]) -> str:
        files = [own.path.name for own in before if own.kind.startswith("gguf")]
        files += [path.name for path in sorted(self.target.glob("*.gguf")) if path.name != "adapter.gguf"]
        adapter = next((path.name for path in self.target.glob("adapter.gguf")), None)
        if not files and (adapter is None or self.trained.base is None):
            raise InvalidRequest(
                "A Modelfile needs a GGUF file beside it.", param="to", hint="Add one: --to gguf:Q4_K_M --to modelfile."
            )
        reference = self.reference
        turns = turns_of(reference.template, reference.tokenizer)
        config = self.work / "reference" / "settings" / "generation_config.json"
        sampling = read_generation_config(config) if config.is_file() else None
        if files:
            return modelfile(f"./{files[0]}", reference.tokenizer, turns, sampling=sampling)
        base = str(self.trained.base).removeprefix("file:")
        return modelfile(base, reference.tokenizer, turns, adapter=f"./{adapter}", sampling=sampling)

    def _text(self, kind: Kind, place: Path, text: str) -> Exported:
        write_atomically(place, text)
        return Exported(str(kind), place, place.stat().st_size)

    def _certify(self, kind: Kind, staged: Path, report: ParityReport) -> None:
        """Beside the file: what it was made from, and what it loses on text that it was not made from."""
        path = certificate_path(staged)
        known = read_json_object(path, MAX_CONFIG_BYTES)
        made = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "madang": __version__}
        trained: dict[str, Any] = {"folder_sha256": _hash_weights(self.trained.folder)}
        if self.trained.adapter is not None:
            trained["adapter_sha256"] = hash_file(self.trained.adapter / WEIGHTS_FILE)
        facts = {
            "made": made,
            "type": str(kind.detail or _type_of(self.merged)),
            "sha256": hash_file(staged),
            "size_bytes": staged.stat().st_size,
        }
        document = {**facts, **known, "trained": trained, "parity": report.to_dict()}
        write_atomically(path, json.dumps(document, indent=1) + "\n")


def _certified(target: Path) -> Iterator[tuple[str, int, ParityReport]]:
    """Files of exports before, with what their certificates say; those that say nothing of the gate are left out."""
    for path in sorted(target.glob("*.gguf")):
        document = read_json_object(certificate_path(path), MAX_CONFIG_BYTES).get("parity")
        if isinstance(document, dict) and (report := read_report(document)) is not None:
            yield path.name, path.stat().st_size, report


def _type_of(folder: Path) -> str:
    """The type that most of a folder's bytes have, as GGUF calls it."""
    found: dict[str, int] = {}
    for tensor in read_safetensors(folder).values():
        found[tensor.type.name] = found.get(tensor.type.name, 0) + tensor.size_bytes
    return max(found, key=lambda name: found[name])


def _hash_weights(folder: Path) -> dict[str, str]:
    files = sorted({tensor.path for tensor in read_safetensors(folder).values()})
    return {file.name: hash_file(file) for file in (*files, folder / CONFIG_FILE)}


def _size_bytes(path: Path) -> int:
    return sum(own.stat().st_size for own in path.rglob("*") if own.is_file()) if path.is_dir() else path.stat().st_size
