"""What can be asked for: ``gguf:Q4_K_M`` is a kind and its detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from madang.core.errors import EngineUnavailable, InvalidRequest, UnknownOption
from madang.core.units import parse_bytes
from madang.engines.transformers.quantizing import import_bitsandbytes
from madang.formats.tensors import TensorType
from madang.quantization.presets import PRESETS

_FLOATS: Final = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}
_DETAILS: Final[Mapping[str, Sequence[str]]] = {
    "adapter": ("PEFT", "GGUF"),
    "safetensors": tuple(_FLOATS),
    "gguf": (*_FLOATS, *PRESETS),
    "onnx": (),
    "mlx": ("4", "8"),
    "modelfile": (),
    "card": (),
}
KINDS: Final = tuple(_DETAILS)
# What is imported only for a kind, and is the extra of its name; all but cards are compared in torch.
_PACKAGES: Final[Mapping[str, Sequence[str]]] = {
    "train": ("torch", "transformers", "peft"),
    "onnx": ("onnxruntime", "onnxscript"),
    "mlx": ("mlx_lm",),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One export: its ``name`` of KINDS, its ``detail`` in capitals or None, and for ``gguf:120MB`` the bytes."""

    name: str
    detail: str | None = None
    size_bytes: int | None = None

    @property
    def tensor_type(self) -> TensorType | None:
        """Of floats, where the detail names one."""
        return _FLOATS.get(self.detail or "")

    def __str__(self) -> str:
        return self.name if self.detail is None else f"{self.name}:{self.detail}"


def parse_kind(text: str) -> Kind:
    """``gguf:q4_k_m`` -> Kind. Raises UnknownOption with what is near, InvalidRequest for a size that is none."""
    name, colon, detail = text.partition(":")
    if name.lower() not in _DETAILS:
        raise UnknownOption("kind of export", name, KINDS)
    known = _DETAILS[name.lower()]
    if not colon:
        return Kind(name.lower())
    wanted = detail.upper()
    if wanted in known:
        return Kind(name.lower(), wanted)
    if name.lower() == "gguf" and wanted[:1].isdigit():
        try:
            return Kind("gguf", wanted, parse_bytes(detail))
        except ValueError as error:
            raise InvalidRequest(f"--to {text}: {error}.", param="to") from error
    if not known:
        raise InvalidRequest(f"There is only one kind of '{name}'.", param="to", hint=f"Write --to {name}.")
    raise UnknownOption(f"{name} export", detail, known)


def require_packages(kinds: Sequence[Kind]) -> None:
    """Raise EngineUnavailable with the command that installs what ``kinds`` need and this machine cannot import."""
    names = {kind.name for kind in kinds} - {"card"}
    if names and find_spec("bitsandbytes") is not None:
        import_bitsandbytes()  # PEFT does otherwise, and what it tells is of no use
    for extra in (*(["train"] if names else []), *(names & _PACKAGES.keys())):
        for package in _PACKAGES[extra]:
            try:
                import_module(package)
            except ImportError as error:
                raise EngineUnavailable(
                    f"This export needs {package}, which cannot be imported here.",
                    hint=f"pip install 'madang[{extra}]'",
                ) from error
