"""Which files of a package or repository make up the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from madang.core.errors import InvalidReference, SourceError, did_you_mean
from madang.models.files import ModelFormat
from madang.models.references import checked_relative

PREFERRED_QUANTIZATION = "q4_k_m"
MAX_LISTED = 12

_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)
# Projectors of vision models and importance matrices are GGUF files, but no models.
_COMPANION = re.compile(r"(^|[-_.])(mmproj|imatrix)", re.IGNORECASE)
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.gguf)")
# What engines take a tokenizer from, whichever library it was made with.
_TOKENIZERS = frozenset(
    (
        *("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt"),
        *("spiece.model", "sentencepiece.bpe.model"),
    )
)
_CONFIG_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja"})
_POOLING = re.compile(r"\d+_[A-Za-z]+/config\.json")
_NEVER = frozenset({"README.txt", "LICENSE.txt", "data_config.json"})


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model's files by their paths in the package, and the folder that all of them lie in ("" is the top)."""

    format: ModelFormat
    folder: str
    paths: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The paths inside the folder."""
        return tuple(path[len(self.folder) :].lstrip("/") for path in self.paths)


def choose_files(origin: str, paths: Sequence[str], wanted: str | None = None) -> Chosen:
    """The one file asked for; else the only GGUF file, else the Q4_K_M one; else the safetensors folder.

    ``origin`` names the package in errors; paths that could leave a folder are not looked at. Raises
    InvalidReference when the choice is the user's, SourceError when there is no model.
    """
    paths = [path for path in paths if _is_plain(path)]
    if wanted is not None:
        return _named(origin, paths, wanted)
    ggufs = sorted(path for path in paths if is_whole_gguf(path))
    if ggufs:
        return _gguf(_preferred(origin, ggufs))
    weights = [path for path in paths if path.endswith(".safetensors")]
    if weights:
        return _folder(
            origin, paths, min((_parent(path) for path in weights), key=lambda name: (name.count("/"), name))
        )
    raise SourceError(f"{origin} holds no model that madang can use (neither GGUF nor safetensors files).")


def _named(origin: str, paths: Sequence[str], wanted: str) -> Chosen:
    if wanted not in paths:
        ggufs = [path for path in paths if path.endswith(".gguf")]
        hint = did_you_mean(wanted, ggufs) or f"It has: {_listed(ggufs or paths)}."
        raise InvalidReference(f"{origin} holds no file '{wanted}'.", param="model", hint=hint)
    if not wanted.lower().endswith(".gguf"):
        raise InvalidReference(
            f"'{wanted}' is not a GGUF file.", param="model", hint=f"For the safetensors files write {origin}."
        )
    if (split := _SPLIT.search(wanted)) is not None:
        _refuse_missing_shards(origin, [path for path in paths if _SPLIT.sub("", path) == _SPLIT.sub("", wanted)])
        raise SourceError(f"'{wanted}' is one of {int(split[1])} parts; madang does not join split files yet.")
    return _gguf(wanted)


def _preferred(origin: str, ggufs: Sequence[str]) -> str:
    preferred = [path for path in ggufs if path.lower().endswith(f"{PREFERRED_QUANTIZATION}.gguf")]
    if len(ggufs) == 1 or len(preferred) == 1:
        return preferred[0] if preferred else ggufs[0]
    raise InvalidReference(
        f"{origin} holds {len(ggufs)} GGUF files; say which one.",
        param="model",
        hint=f"Add one to the reference: {_listed(preferred or ggufs)}.",
    )


def _gguf(path: str) -> Chosen:
    return Chosen("gguf", _parent(path), (path,))


def _folder(origin: str, paths: Sequence[str], folder: str) -> Chosen:
    prefix = f"{folder}/" if folder else ""
    names = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
    weights = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    # Some repositories carry the same weights twice, once in their vendor's own layout.
    weights = [name for name in weights if name.startswith("model")] or weights
    if "config.json" not in names:
        raise SourceError(f"{origin} has safetensors files but no config.json, so it is not a whole model.")
    _refuse_missing_shards(origin, weights)
    if not _TOKENIZERS.intersection(names):
        raise SourceError(
            f"{origin} has no tokenizer (tokenizer.json, tokenizer.model or the like), so it is not a whole model.",
            hint="Take the repository that it was made from, or one that adds the tokenizer.",
        )
    configs = [name for name in names if _is_config(name)]
    return Chosen("huggingface", folder, tuple(prefix + name for name in sorted(configs + weights)))


def _refuse_missing_shards(origin: str, names: Sequence[str]) -> None:
    """Of parts that are numbered all must be there."""
    for name in names:
        match = _SHARD.fullmatch(name)
        if match is None:
            continue
        shards = [f"{match[1]}-{number:05}-of-{match[2]}{match[3]}" for number in range(1, int(match[2]) + 1)]
        missing = [shard for shard in shards if shard not in names]
        if missing:
            raise SourceError(
                f"{origin} lacks {_listed(missing)}, one of {int(match[2])} parts of the weights."
                if len(missing) == 1
                else f"{origin} lacks {len(missing)} of {int(match[2])} parts of the weights: {_listed(missing)}.",
                hint="Without it the others are of no use; look for a whole copy of the model.",
            )


def _is_plain(path: str) -> bool:
    try:
        checked_relative(path)
    except InvalidReference:
        return False
    return True


def is_whole_gguf(path: str) -> bool:
    """Whether it is the file of a model by its name: neither a part of one nor a companion."""
    name = PurePosixPath(path).name
    return name.lower().endswith(".gguf") and not _SPLIT.search(name) and not _COMPANION.search(name)


def _is_config(name: str) -> bool:
    if "/" in name:
        return _POOLING.fullmatch(name) is not None
    return PurePosixPath(name).suffix in _CONFIG_SUFFIXES and name not in _NEVER and not name.startswith(".")


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else ""
    return ", ".join(paths[:MAX_LISTED]) + more
