"""The engines that madang knows, in the order in which they are preferred. Nothing is imported until one is loaded.

Other packages add theirs with an entry point in the group ``madang.engines``: its name is the engine's, its value
``module:function`` of a :data:`Loader`. Such an engine runs when it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any, TypeAlias

from madang.core.engine import Engine, Loaded
from madang.core.errors import EngineUnavailable, InvalidRequest, UnknownOption, UnsupportedModel

if TYPE_CHECKING:
    from madang.hardware import Plan
    from madang.models import ModelFiles

Loader: TypeAlias = "Callable[[ModelFiles, Plan], Loaded]"
Standalone: TypeAlias = Callable[..., Engine]  # model name, context in tokens; remote takes a key as well

# Settings that make sense to some engines only.
NATIVE_SETTINGS = ("kv_memory", "kv_type", "concurrency", "speculation", "isa", "precision")
PLACEMENT_SETTINGS = ("device", "dtype", "quantize", "attention")
ENTRY_POINT_GROUP = "madang.engines"


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One row of the table.

    target        "module:function" of its :data:`Loader`, or of its :data:`Standalone` when it reads no files
    formats       file formats it reads; an engine with none is never chosen unless it is named
    modules       what must be importable for it to run; ``program`` what the shell must find
    install       the command that makes them so
    reads_files   False for an engine that needs no model at all
    unused        settings that it has no use for; giving one for a single run is an error
    places        whether it finds room for the model itself, on whichever device
    fills         whether it takes the memory of its whole cache at the start, however little of it is used
    """

    name: str
    target: str
    formats: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    program: str | None = None
    install: str = ""
    reads_files: bool = True
    unused: tuple[str, ...] = ()
    places: bool = False
    fills: bool = False

    def is_installed(self) -> bool:
        """Whether what it needs can be found; imports nothing of it."""
        return not self.missing()

    def missing(self) -> list[str]:
        """What it needs and cannot be found."""
        modules = [module for module in self.modules if not _is_importable(module)]
        return modules if self.program is None or which(self.program) else [*modules, self.program]

    def loader(self) -> Loader:
        """Its load function. Raises :class:`EngineUnavailable` with the command that installs what is missing."""
        loader: Loader = self._target()
        return loader

    def standalone(self) -> Standalone:
        """The same for an engine that reads no files."""
        opener: Standalone = self._target()
        return opener

    def _target(self) -> Any:
        missing = self.missing()
        if missing:
            raise EngineUnavailable(
                f"The {self.name} engine needs {' and '.join(missing)}, which cannot be found here.",
                hint=f"Install it with: {self.install}",
            )
        module, _, function = self.target.partition(":")
        return getattr(import_module(module), function)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that will run a model, and why this one."""

    entry: EngineEntry
    reason: str


ENGINES: tuple[EngineEntry, ...] = (
    EngineEntry(
        "native",
        "madang.native.opening:load",
        formats=("gguf", "huggingface"),
        modules=("madang._core",),
        install="pip install --force-reinstall madang",
        unused=PLACEMENT_SETTINGS,
    ),
    EngineEntry(
        "llamacpp",
        "madang.engines.llamacpp.engine:load",
        formats=("gguf",),
        modules=("xllamacpp",),
        install="pip install 'madang[llamacpp]'",
        unused=(*PLACEMENT_SETTINGS, "isa", "precision"),
        fills=True,
    ),
    EngineEntry(
        "transformers",
        "madang.engines.transformers:load",
        formats=("huggingface",),
        modules=("torch", "transformers", "safetensors"),
        install="pip install 'madang[torch]'",
        unused=NATIVE_SETTINGS,
        places=True,
    ),
    EngineEntry(
        "mlx",
        "madang.engines.mlx:load",
        formats=("huggingface",),
        modules=("mlx.core", "mlx_lm"),
        install="pip install 'madang[mlx]'",
        unused=(*NATIVE_SETTINGS, *PLACEMENT_SETTINGS, "threads"),
        places=True,
    ),
    EngineEntry(
        "llama-server",
        "madang.engines.supervised.engine:load_llama_server",
        formats=("gguf",),
        program="llama-server",
        install="brew install llama.cpp, or see https://github.com/ggml-org/llama.cpp/releases",
        unused=(*NATIVE_SETTINGS, *PLACEMENT_SETTINGS),
        fills=True,
    ),
    EngineEntry(
        "vllm",
        "madang.engines.supervised.engine:load_vllm",
        formats=("huggingface",),
        program="vllm",
        install="pip install vllm, best into an environment of its own that is on the PATH",
        unused=(*NATIVE_SETTINGS, *PLACEMENT_SETTINGS, "threads"),
        places=True,
    ),
    EngineEntry("remote", "madang.engines.remote:connect", reads_files=False),
    EngineEntry("echo", "madang.engines.echo:EchoEngine", reads_files=False),
)


def engine_entries() -> tuple[EngineEntry, ...]:
    """The table, then what other packages add. A name of the table cannot be taken over."""
    own = {entry.name for entry in ENGINES}
    added = entry_points(group=ENTRY_POINT_GROUP)
    return ENGINES + tuple(EngineEntry(point.name, point.value) for point in added if point.name not in own)


def find_engine(name: str, entries: Sequence[EngineEntry] | None = None) -> EngineEntry:
    """The row of that name. Raises :class:`UnknownOption` with the closest name there is."""
    found = _named(name, ENGINES if entries is None else entries)
    if found is None and entries is None:  # to look for those of other packages takes milliseconds
        entries = engine_entries()
        found = _named(name, entries)
    if found is None:
        raise UnknownOption("engine", name, [entry.name for entry in entries or ()])
    return found


def _named(name: str, entries: Sequence[EngineEntry]) -> EngineEntry | None:
    return next((entry for entry in entries if entry.name == name), None)


def choose_engine(
    model_format: str, wanted: str | None = None, entries: Sequence[EngineEntry] | None = None
) -> EngineChoice:
    """The engine for files of this format: the ``wanted`` one, else the first of the table that is installed.

    Raises :class:`UnknownOption`, :class:`InvalidRequest` when the wanted engine does not read the format,
    :class:`EngineUnavailable` when only engines that are not installed do, :class:`UnsupportedModel` when none does.
    """
    from madang.hardware import Reason

    if wanted is not None:
        return EngineChoice(_wanted(model_format, find_engine(wanted, entries)), "asked for by name")
    entries = engine_entries() if entries is None else entries
    able = [entry for entry in entries if model_format in entry.formats]
    for entry in able:
        if entry.is_installed():
            return EngineChoice(entry, Reason("first installed engine that reads {format} files", format=model_format))
    if able:
        able[0].loader()  # raises, naming what is missing
    raise UnsupportedModel(f"files of the format {model_format}", runs_with="a GGUF file of the same model")


def _wanted(model_format: str, entry: EngineEntry) -> EngineEntry:
    if entry.formats and model_format not in entry.formats:
        raise InvalidRequest(
            f"The {entry.name} engine reads {' and '.join(entry.formats)} files, but this model is {model_format}.",
            param="engine",
        )
    return entry


def _is_importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent package
        return False
