"""Where and how libraries that compute on several devices run a model: what the user insists on, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from madang.core.errors import UnknownOption
from madang.hardware.choice import Choice

AUTO: Final = "auto"
DEVICES: Final = ("cpu", "cuda", "mps")
DTYPES: Final = ("float32", "bfloat16", "float16")
QUANTIZATIONS: Final = ("none", "nf4", "fp4", "int8")
ATTENTIONS: Final = ("sdpa", "eager", "flash_attention_2")

_AUTO = Choice(AUTO, "what the engine finds best on this machine")
_NONE = Choice("none", "the default: weights as they are in the files")


@dataclass(frozen=True, slots=True)
class Placement:
    """Words of the lists above; "auto" leaves it to the engine, which knows the devices that its library sees.

    device      a card has its number behind a colon: cuda:1
    dtype       of weights and activations; with a quantization, of what is computed with them
    quantize    while loading, with bitsandbytes: NF4 or FP4 with double quantization (arXiv:2305.14314), or LLM.int8
    attention   how attention is computed
    """

    device: Choice[str] = _AUTO
    dtype: Choice[str] = _AUTO
    quantize: Choice[str] = _NONE
    attention: Choice[str] = _AUTO


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """What the user insists on; None leaves it open."""

    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    attention: str | None = None


def place(requested: PlacementRequest) -> Placement:
    """The same as choices. Raises UnknownOption for a word that is none."""
    kind, colon, number = (requested.device or "").partition(":")
    if colon and not (kind == "cuda" and number.isascii() and number.isdigit()):
        raise UnknownOption("device", requested.device or "", DEVICES)
    defaults = Placement()
    return Placement(
        device=_chosen("device", requested.device, defaults.device, (*DEVICES, requested.device if colon else AUTO)),
        dtype=_chosen("dtype", requested.dtype, defaults.dtype, (*DTYPES, AUTO)),
        quantize=_chosen("quantization", requested.quantize, defaults.quantize, QUANTIZATIONS),
        attention=_chosen("kind of attention", requested.attention, defaults.attention, (*ATTENTIONS, AUTO)),
    )


def _chosen(kind: str, word: str | None, default: Choice[str], known: tuple[str | None, ...]) -> Choice[str]:
    if word is None or word == AUTO:
        return default
    if word not in known:
        raise UnknownOption(kind, word, [name for name in known if name is not None])
    return Choice(word, "as requested")
