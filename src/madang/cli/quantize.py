"""``madang quantize``: a model in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from madang.cli import checkpoints, options, sizing
from madang.cli.console import note
from madang.cli.making import n_threads, target_of, tell_made
from madang.cli.pull import model_document, watching
from madang.core.errors import InvalidRequest, UnknownOption, UnsupportedModel
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.models import ModelFiles, Reference, Store
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
    from madang.models import Store
    from madang.quantization.checkpoint_types import find_checkpoint_type

    settings = options.settings_of(ctx, threads=threads)
    type_word = type_name or _DEFAULT_TYPE
    if (checkpoint := find_checkpoint_type(type_word)) is not None:
        others = {"--importance": importance, "--size": size, "--fit-memory": fit_memory, "--pure": pure or None}
        checkpoints.refuse_with_type(checkpoint.name, {name: value is not None for name, value in others.items()})
        asked = checkpoints.Asked(checkpoint, bits, group_size, text, held_out)
        checkpoints.quantize_to_checkpoint(source, target, settings, asked, as_json=as_json)
        return
    if group_size is not None:
        raise InvalidRequest("--group-size is for --type GPTQ and AWQ.", param="group_size", hint="Leave it out.")
    limit = sizing.Limit(size, bits, fit_memory)
    preset, store = _preset(type_word), Store(settings.home)
    files = _gguf_files(source, store, type_word)
    if limit.is_given:
        _refuse_with_limit(type_name, importance, pure)
        own = _file_target(_target(files, source, target, "budget"))
        sizing.quantize_to_limit(files.path, own, limit, texts=(text, held_out), settings=settings, as_json=as_json)
        return
    if text is not None or held_out is not None:
        raise InvalidRequest("--text and --held-out are for --size, --bits and --fit-memory.", hint="Give one of them.")
    done = _Job(files, preset, importance, pure).run(_target(files, source, target, type_word), store, settings)
    tell_made(done | {"type": type_word.upper()}, as_json=as_json)


def _preset(name: str) -> Preset:
    """Raises UnknownOption, which knows the types of folders as well."""
    from madang.quantization.checkpoint_types import CHECKPOINT_TYPES
    from madang.quantization.presets import PRESETS, find_preset

    if name.upper() not in PRESETS:
        raise UnknownOption("preset", name, [*PRESETS, *CHECKPOINT_TYPES])
    return find_preset(name)


def _gguf_files(source: str, store: Store, type_word: str) -> ModelFiles:
    """Raises UnsupportedModel for a folder."""
    from madang.runtime import find_files

    files = find_files(source, store)
    if files.format != "gguf":
        raise UnsupportedModel(
            f"folders in 'madang quantize --type {type_word}'",
            hint="Convert it first: madang convert SRC DST.gguf; or take NF4, FP4, INT8, GPTQ or AWQ.",
        )
    return files


def _target(files: ModelFiles, source: str, target: str | None, word: str) -> Reference:
    """Raises InvalidRequest where it is the source."""
    from madang.models import FileReference

    beside = files.path.with_name(f"{files.path.name.removesuffix('.gguf')}.{word.upper()}.gguf")
    reference = target_of(source, target, beside=beside, word=word.lower(), may_be_folder=False)
    if isinstance(reference, FileReference) and reference.path.resolve() == files.path.resolve():
        raise InvalidRequest("The target is the source itself.", param="DST", hint="Name another file.")
    return reference


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

    def __init__(self, files: ModelFiles, preset: Preset, importance: Path | None, pure: bool) -> None:
        from madang.formats.gguf import read_gguf
        from madang.quantization.importance import read_importance
        from madang.quantization.presets import ModelFacts, preset_types

        self._gguf = read_gguf(files.path)
        self._files = files
        self._preset = preset
        self._importance = None if importance is None else read_importance(importance)
        tensors = list(self._gguf.tensors.values())
        facts = ModelFacts.of(self._gguf)
        self._types = preset_types(preset, tensors, facts, has_importance=importance is not None, pure=pure)

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
        from madang.quantization.quantizing import quantize_file

        means = None if self._importance is None else self._importance.mean_squares
        with watching(f"Quantizing {self._files.name}") as progress:
            done = quantize_file(
                self._gguf,
                path,
                self._types,
                importance=means,
                n_threads=n_threads(settings),
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
