"""Models that can be trained: Hugging Face folders, and GGUF files turned into one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from madang.core.errors import UnsupportedModel
from madang.core.progress import Progress
from madang.formats.families import describe_folder
from madang.formats.spec import DecoderSpec, ModelDescription
from madang.formats.templates import ChatTemplate, template_for
from madang.formats.tokenizers import Tokenizer, tokenizer_from_json
from madang.models import ModelFiles, Store
from madang.runtime import find_files

FOLDER = "runs/bases"  # below home


@dataclass(frozen=True, slots=True)
class FolderModel:
    """A model that transformers loads, with the tokenizer and template that also run it.

    sha256   of the source's weights: of the GGUF file, or of a folder's safetensors files in the order of their names
    files    where it came from; of a GGUF file, ``path`` is the folder made of it
    """

    path: Path
    tokenizer: Tokenizer
    template: ChatTemplate
    sha256: str
    files: ModelFiles
    description: ModelDescription

    @property
    def spec(self) -> DecoderSpec:
        """Its dimensions."""
        return self.description.spec

    @property
    def n_parameters(self) -> int:
        """Weights, those counted once that are used twice."""
        return sum(_n_elements(tensor.shape) for tensor in self.description.tensors.values())

    @property
    def layer_matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of each matrix in a layer: what adapters stand beside."""
        return [
            (tensor.shape[0], tensor.shape[1])
            for name, tensor in self.description.tensors.items()
            if len(tensor.shape) == 2 and name[0].isdigit()
        ]


def _n_elements(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def trainable(reference: str, home: Path, *, progress: Progress | None = None) -> FolderModel:
    """The model as a folder; one of a GGUF file is made once, in float32, and kept below ``home``.

    Raises ModelNotFound, UnsupportedModel for embedding models and quantized folders, CannotConvert, NotEnoughDisk.
    """
    from madang.conversion import to_folder
    from madang.formats.tensors import TensorType

    files = find_files(reference, Store(home))
    sha256 = digest_of(files.path)
    path = files.path
    if files.format == "gguf":
        path = home / FOLDER / sha256[:32]
        if not path.exists():
            to_folder(files.path, path, TensorType.F32, progress=progress)
    description = describe_folder(path)
    if description.embedding is not None:
        raise UnsupportedModel(f"{files.name}: it makes vectors, not text", engine="training")
    tokenizer = tokenizer_from_json(path)
    return FolderModel(path, tokenizer, template_for(tokenizer), sha256, files, description)


def digest_of(path: Path) -> str:
    """sha256 of a file, or of a folder's weights."""
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
