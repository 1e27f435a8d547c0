"""``madang quantize``: a model in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import checkpoints, options, sizing
from madang.cli.console import data, data_json, note
from madang.cli.pull import model_document, watching
from madang.core.errors import InvalidRequest, UnknownOption, UnsupportedModel
from madang.core.settings import Settings
from madang.core.units import format_bytes

if TYPE_CHECKING:
    from madang.formats.gguf import GGUFFile
    from madang.models import ModelFiles, Reference, Store
    from madang.quantization.importance import Importance
    from madang.quantization.presets import Preset
    from madang.quantization.quantizing import QuantizedFile

Source = Annotated[str, typer.Argument(metavar="SRC", help="A model, GGUF file or folder, best in F16, BF16 or F32.")]
Target = Annotated[
    str | None,
    typer.Argument(metavar="DST", help="File, folder, or name in the store. Unset: beside SRC, with the type behind."),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="NAME",
        help="Q4_K_M (unset), IQ4_NL, Q8_0 ... as llama.cpp names them; NF4, FP4, INT8, GPTQ or AWQ for PyTorch.",
    ),
]
_DEFAULT_TYPE = "Q4_K_M"
ImportanceFile = Annotated[
    Path | None,
    typer.Option("--importance", metavar="FILE", help="What 'madang importance' or llama.cpp's imatrix measured."),
]
Pure = Annotated[bool, typer.Option("--pure", help="The same type for every matrix, where its rows allow it.")]


def quantize(  # noqa: PLR0913  (a command line's options are its parameters)
    ctx: typer.Context,
    source: Source,
    target: Target = None,
    *,
    type_name: Type = None,
    importance: ImportanceFile = None,
    pure: Pure = False,
    size: sizing.Size = None,
    bits: sizing.Bits = None,
    fit_memory: sizing.FitMemory = None,
    text: sizing.Text = None,
    held_out: sizing.HeldOut = None,
    group_size: checkpoints.GroupSize = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Write a model again in fewer bits, as a GGUF file that every runtime of such files loads.

    The types for PyTorch make Hugging Face folders, of folders or GGUF files.
    """
    from madang.formats.gguf import read_gguf
    from madang.models import Store
    from madang.quantization.checkpoint_types import find_checkpoint_type
    from madang.quantization.importance import read_importance
    from madang.runtime import find_files

    settings = options.settings_of(ctx, threads=threads)
    chosen_type = type_name or _DEFAULT_TYPE
    store = Store(settings.home)
    if (checkpoint := find_checkpoint_type(chosen_type)) is not None:
        others = {"--importance": importance, "--size": size, "--fit-memory": fit_memory, "--pure": pure or None}
        checkpoints.refuse_with_type(checkpoint.name, {name: value is not None for name, value in others.items()})
        files = find_files(source, store)
        asked = checkpoints.Asked(checkpoint, bits, group_size, text, held_out)
        own_target = checkpoints.target_of(files, source, target, checkpoint.name)
        checkpoints.quantize_to_checkpoint(files, own_target, store, settings, asked, as_json=as_json)
        return
    if group_size is not None:
        raise InvalidRequest("--group-size is for --type GPTQ and AWQ.", param="group_size", hint="Leave it out.")
    limit = sizing.Limit(size, bits, fit_memory)
    preset = _preset(chosen_type)
    files = find_files(source, store)
    if files.format != "gguf":
        raise UnsupportedModel(
            f"folders in 'madang quantize --type {chosen_type}'",
            hint="Convert it first: madang convert SRC DST.gguf; or take NF4, FP4, INT8, GPTQ or AWQ.",
        )
    if limit.is_given:
        _refuse_with_limit(type_name, importance, pure)
        own = _file_target(_target(files, source, target, "budget"))
        sizing.quantize_to_limit(files.path, own, limit, texts=(text, held_out), settings=settings, as_json=as_json)
        return
    if text is not None or held_out is not None:
        raise InvalidRequest("--text and --held-out are for --size, --bits and --fit-memory.", hint="Give one of them.")
    job = _Job(read_gguf(files.path), files, preset, None if importance is None else read_importance(importance), pure)
    done = job.run(_target(files, source, target, chosen_type), store, settings)
    if as_json:
        data_json(done | {"type": chosen_type.upper()})
    else:
        data(f"{done['name']}  {format_bytes(int(str(done['size_bytes'])))}  {done['path']}")


def _preset(name: str) -> Preset:
    """Raises UnknownOption, which knows the types of folders as well."""
    from madang.quantization.checkpoint_types import CHECKPOINT_TYPES
    from madang.quantization.presets import PRESETS, find_preset

    if name.upper() not in PRESETS:
        raise UnknownOption("preset", name, [*PRESETS, *CHECKPOINT_TYPES])
    return find_preset(name)


def _refuse_with_limit(type_name: str | None, importance: Path | None, pure: bool) -> None:
    """Where types are searched for, these have nothing to say."""
    given = {"--type": type_name is not None, "--importance": importance is not None, "--pure": pure}
    for option, is_given in given.items():
        if is_given:
            raise InvalidRequest(
                f"{option} makes no sense with --size, --bits or --fit-memory, which search for types and measure "
                "importance themselves.",
                hint="Leave it out.",
            )


def _file_target(reference: Reference) -> Path:
    from madang.models import FileReference

    if not isinstance(reference, FileReference):
        raise InvalidRequest(
            f"{reference} is a name; a certificate needs a place beside a file.", param="DST", hint="Name a file."
        )
    return reference.path


class _Job:
    """One file to make of another."""

    def __init__(
        self, gguf: GGUFFile, files: ModelFiles, preset: Preset, importance: Importance | None, pure: bool
    ) -> None:
        from madang.quantization.presets import ModelFacts, preset_types

        self._gguf = gguf
        self._files = files
        self._preset = preset
        self._importance = importance
        tensors = list(gguf.tensors.values())
        self._types = preset_types(
            preset, tensors, ModelFacts.of(gguf), has_importance=importance is not None, pure=pure
        )

    def run(self, target: Reference, store: Store, settings: Settings) -> dict[str, object]:
        """Write it where ``target`` says, and tell where that is."""
        from madang.models import FileReference, make_model
        from madang.models.fetching import StagedFile

        if isinstance(target, FileReference):
            written = self._write(target.path, settings).written
            return {"name": str(target), "path": str(target.path), "size_bytes": written.size_bytes}

        def write(path: Path) -> StagedFile:
            written = self._write(path, settings).written
            return StagedFile(path.name, path, written.size_bytes, written.sha256)

        return model_document(make_model(store, target, self._files, f"quantized from {self._files.name}", write))

    def _write(self, path: Path, settings: Settings) -> QuantizedFile:
        from madang.hardware import probe_machine
        from madang.quantization.quantizing import quantize_file

        means = None if self._importance is None else self._importance.mean_squares
        with watching(f"Quantizing {self._files.name}") as progress:
            done = quantize_file(
                self._gguf,
                path,
                self._types,
                importance=means,
                n_threads=settings.threads or probe_machine(settings.home, gpus=False).physical_cores or 1,
                file_type=self._preset.file_type,
                progress=progress,
            )
        self._tell(done)
        return done

    def _tell(self, done: QuantizedFile) -> None:
        """What whoever uses the file should know."""
        if done.was_quantized:
            names = ", ".join(tensor_type.name for tensor_type in done.was_quantized)
            note(f"Note: the source is quantized already ({names}); what that lost stays lost. Start from floats.")
        if self._importance is not None and done.n_weighted == 0:
            note("Note: the importance names none of the tensors; it is of another model.")
        substituted = {
            tensor.shape[-1]
            for name, tensor in self._gguf.tensors.items()
            if self._types[name] != tensor.type and tensor.shape[-1] % self._preset.base.block_elements
        }
        if substituted:
            widths = ", ".join(map(str, sorted(substituted)))
            note(
                f"Note: rows of {widths} columns cannot have {self._preset.base.name} "
                f"({self._preset.base.block_elements} columns a block); they got larger types."
            )


def _target(files: ModelFiles, source: str, target: str | None, type_name: str) -> Reference:
    from madang.models import FileReference, NameReference, parse_reference

    if target is not None:
        reference = parse_reference(target)
    else:
        reference = parse_reference(source)
        if isinstance(reference, FileReference):
            stem = files.path.name.removesuffix(".gguf")
            reference = FileReference(files.path.with_name(f"{stem}.{type_name.upper()}.gguf"))
        elif isinstance(reference, NameReference):
            reference = NameReference(reference.name, f"{reference.tag}-{type_name.lower()}")
    if not isinstance(reference, FileReference | NameReference):
        raise InvalidRequest(
            f"{reference} cannot be written to.", param="DST", hint="Name a file, or a model: mine:q4."
        )
    if isinstance(reference, FileReference) and reference.path.resolve() == files.path.resolve():
        raise InvalidRequest("The target is the source itself.", param="DST", hint="Name another file.")
    return reference
