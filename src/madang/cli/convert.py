"""``madang convert``: the same model in the other format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from madang.cli import options
from madang.cli.console import note
from madang.cli.making import n_threads, target_of, tell_made
from madang.cli.pull import model_document, watching
from madang.core.errors import InvalidRequest, UnknownOption
from madang.core.settings import Settings

if TYPE_CHECKING:
    from madang.formats.tensors import TensorType
    from madang.models import ModelFiles, Reference, Store
    from madang.models.fetching import StagedFile

Source = Annotated[str, typer.Argument(metavar="SRC", help="A model, a GGUF file, or a Hugging Face folder.")]
Target = Annotated[
    str | None,
    typer.Argument(metavar="DST", help="File, folder, or name in the store. Unset: beside SRC, named after it."),
]
To = Annotated[str | None, typer.Option("--to", metavar="FORMAT", help="gguf or hf. Unset: the one that SRC is not.")]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="TYPE", help="f32, f16 or bf16, for gguf also q8_0. Unset: as precise as SRC."),
]
Base = Annotated[str | None, typer.Option("--base", metavar="MODEL", help="SRC is a LoRA adapter of this model.")]
_FORMATS = ("gguf", "hf")
_OTHER: dict[str, Literal["gguf", "hf"]] = {"huggingface": "gguf", "gguf": "hf"}


def convert(
    ctx: typer.Context,
    source: Source,
    target: Target = None,
    *,
    to: To = None,
    dtype: Dtype = None,
    base: Base = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Write a Hugging Face folder as a GGUF file, or a GGUF file as a folder for transformers.

    Tokenizer, chat template and settings go along; what the other format cannot say is refused. With --base, SRC is a
    LoRA adapter of that model: a PEFT folder, or a GGUF file.
    """
    from madang.models import Store
    from madang.runtime import find_files

    settings = options.settings_of(ctx, threads=threads)
    tensor_type = None if dtype is None else _tensor_type(dtype)
    store = Store(settings.home)
    if base is not None:
        tell_made(_adapter(Path(source), target, find_files(base, store)), as_json=as_json)
        return
    files = find_files(source, store)
    if to is not None and to not in _FORMATS:
        raise UnknownOption("format", to, _FORMATS)
    if to is not None and to != _OTHER[files.format]:
        raise InvalidRequest(
            f"{files.name} is in that format already.",
            param="to",
            hint="Other types of tensors: madang quantize SRC --type NAME." if to == "gguf" else None,
        )
    word = "" if tensor_type is None else tensor_type.name.lower()
    reference = target_of(
        source, target, beside=_beside(files.path, word), word=word or _OTHER[files.format], may_be_folder=True
    )
    job = _FolderJob(files, tensor_type) if files.format == "gguf" else _FileJob(files, tensor_type)
    tell_made(job.run(reference, store, settings), as_json=as_json)


def _adapter(path: Path, target: str | None, base: ModelFiles) -> dict[str, object]:
    """Convert a LoRA adapter of the model ``base``."""
    from madang.conversion.adapters import adapter_to_folder, adapter_to_gguf

    write = adapter_to_gguf if path.is_dir() else adapter_to_folder
    written = _beside(path, "") if target is None else Path(target).expanduser()
    size_bytes = write(path, written, base.path, base.format)
    return {"name": written.name, "path": str(written.absolute()), "size_bytes": size_bytes}


def _tensor_type(word: str) -> TensorType:
    from madang.conversion.to_gguf import TYPES

    names = {one.name.lower(): one for one in TYPES}
    if word.lower() not in names:
        raise UnknownOption("type", word, list(names))
    return names[word.lower()]


class _FileJob:
    """A GGUF file to make of a folder."""

    def __init__(self, files: ModelFiles, tensor_type: TensorType | None) -> None:
        self._files = files
        self._type = tensor_type

    def run(self, target: Reference, store: Store, settings: Settings) -> dict[str, object]:
        """Write it where ``target`` says, and tell where that is."""
        from madang.models import FileReference, make_model

        if isinstance(target, FileReference):
            staged = self._write(target.path, settings)
            return {"name": str(target), "path": str(target.path), "size_bytes": staged.size_bytes}
        parts = (store, target, self._files, f"converted from {self._files.name}")
        return model_document(make_model(*parts, lambda path: self._write(path, settings)))

    def _write(self, path: Path, settings: Settings) -> StagedFile:
        from madang.conversion import to_gguf
        from madang.models import FileReference, parse_reference
        from madang.models.fetching import StagedFile

        is_named = not isinstance(parse_reference(self._files.name), FileReference)
        with watching(f"Converting {self._files.name}") as progress:
            written = to_gguf(
                self._files.path,
                path,
                self._type,
                name=self._files.name if is_named else None,
                n_threads=n_threads(settings),
                progress=progress,
            )
        return StagedFile(path.name, path, written.size_bytes, written.sha256)


class _FolderJob:
    """A folder to make of a GGUF file."""

    def __init__(self, files: ModelFiles, tensor_type: TensorType | None) -> None:
        self._files = files
        self._type = tensor_type

    def run(self, target: Reference, store: Store, settings: Settings) -> dict[str, object]:
        """Write it where ``target`` says, and tell where that is."""
        from madang.models import FileReference, make_folder_model

        if isinstance(target, FileReference):
            size_bytes = self._write(target.path, settings)
            return {"name": str(target), "path": str(target.path), "size_bytes": size_bytes}
        parts = (store, target, self._files, f"converted from {self._files.name}")
        return model_document(make_folder_model(*parts, lambda path: self._write(path, settings)))

    def _write(self, path: Path, settings: Settings) -> int:
        from madang.conversion.to_folder import loading_note, to_folder
        from madang.formats.gguf import read_gguf

        file = read_gguf(self._files.path)
        types = {tensor.type for tensor in file.tensors.values()}
        quantized = ", ".join(sorted(one.name for one in types if one.block_elements > 1))
        if quantized:
            note(f"Note: the source is quantized ({quantized}); what that lost stays lost.")
        with watching(f"Converting {self._files.name}") as progress:
            size_bytes = to_folder(self._files.path, path, self._type, n_threads=n_threads(settings), progress=progress)
        if (told := loading_note(file)) is not None:
            note(f"Note: {told}")
        return size_bytes


def _beside(path: Path, word: str) -> Path:
    if path.is_dir():
        return path.with_name(f"{path.name}{f'.{word.upper()}' if word else ''}.gguf")
    return path.with_name(path.name.removesuffix(".gguf") + (f"-{word}" if word else "-hf"))
