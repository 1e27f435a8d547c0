"""What is known of a model before it is loaded: which one a reference means, what will run it, the room it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from madang.core.sampling import SamplingParams
from madang.core.settings import Settings
from madang.engines import find_engine
from madang.formats.families import outline_spec
from madang.formats.gguf import read_gguf
from madang.formats.spec import ModelDescription
from madang.hardware import MemoryEstimate, estimate_weights_bytes, kv_cache_bytes, packed_weights_bytes, working_bytes
from madang.hardware.kv_cache import KV_TYPES
from madang.hardware.plan import PREFILL_CHUNK_TOKENS
from madang.models import ModelFiles, Store, parse_reference, read_endpoint
from madang.runtime.choosing import choose_for
from madang.runtime.open import MODEST_CONTEXT_TOKENS


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model a reference means now.

    reference   its canonical form: what aliases and relative paths stand for
    content     where its files lie, and how it samples; None where there are no files
    stamps      size and time of each file: other stamps are another model
    """

    reference: str
    content: tuple[Path, SamplingParams] | None = None
    stamps: tuple[tuple[str, int, int], ...] = ()

    def means(self, other: Identity) -> bool:
        """Whether both name the same model, be it changed since."""
        return self.reference == other.reference or (self.content is not None and self.content == other.content)

    def is_unchanged(self, other: Identity) -> bool:
        """Of two that mean the same model: whether its files are the same, too."""
        return (self.content, self.stamps) == (other.content, other.stamps)


def identify(reference: str, settings: Settings) -> Identity:
    """Raises InvalidReference, UnknownOption for an engine that does not exist, MalformedFile."""
    if not _reads_files(reference, settings):
        return Identity(reference)
    parsed = parse_reference(reference)
    files = Store(settings.home).find(parsed)
    if files is None:
        return Identity(str(parsed))
    try:
        path = files.path.resolve()
        return Identity(str(parsed), (path, files.sampling_defaults), tuple(_stamps(path)))
    except FileNotFoundError:  # removed at this moment
        return Identity(str(parsed))


@dataclass(frozen=True, slots=True)
class Prospect:
    """What will run a model and why, and the memory that must be free for it; 0 where that cannot be told."""

    engine: str
    reason: str
    needed_bytes: int = 0


def foresee(reference: str, settings: Settings) -> Prospect:
    """Looks at the model's files, as far as they are here; reads no weights.

    Raises what ``open_loaded`` raises for a model that no engine runs.
    """
    if not _reads_files(reference, settings):
        return Prospect(settings.engine or "remote", "asked for by name" if settings.engine else "a server runs it")
    files = Store(settings.home).find(parse_reference(reference))
    if files is None:
        return Prospect("", "")  # opening it says what is to be done
    chosen = choose_for(files, settings.engine)
    entry = chosen.choice.entry
    if entry.places:  # where and in which form it will lie is not known yet: about what its files are
        return Prospect(entry.name, chosen.choice.reason, MemoryEstimate(files.size_bytes, 0).total_bytes)
    return Prospect(entry.name, chosen.choice.reason, _needed_bytes(files, settings, chosen.description))


def _needed_bytes(files: ModelFiles, settings: Settings, description: ModelDescription | None) -> int:
    if description is None:
        spec, weights_bytes = outline_spec(read_gguf(files.path)), estimate_weights_bytes(files.size_bytes)
    else:
        spec, weights_bytes = description.spec, packed_weights_bytes(description.tensors.values())
    # A plan may find room for more, but nobody has to leave for it.
    n_ctx = min(spec.context_tokens, MODEST_CONTEXT_TOKENS if settings.context is None else settings.context)
    cache_bytes = kv_cache_bytes(spec, n_ctx, kv_type=settings.kv_type or KV_TYPES[0])
    if settings.kv_memory is not None:
        cache_bytes = min(cache_bytes, settings.kv_memory)
    chunk_tokens = min(n_ctx, PREFILL_CHUNK_TOKENS)
    return MemoryEstimate(weights_bytes, cache_bytes, working_bytes(spec, chunk_tokens)).total_bytes


def _reads_files(reference: str, settings: Settings) -> bool:
    """Whether a model on this machine is meant, and not one that a server runs, or none at all."""
    if read_endpoint(reference) is not None:
        return False
    return settings.engine is None or find_engine(settings.engine).reads_files


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    """Of a file, or of those of a folder."""
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        status = file.stat()
        yield file.name, status.st_size, status.st_mtime_ns
