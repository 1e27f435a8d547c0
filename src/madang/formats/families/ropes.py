"""How a source describes its rotary embedding, in GGUF metadata and in config.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from madang.core.errors import MalformedFile
from madang.formats.families.sources import require_neutral, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.metadata import CheckedMetadata
from madang.formats.rope import Frequencies, Llama3, Yarn, base_frequencies, long_rope_magnitude, scale_linear
from madang.formats.spec import LongRope, RopeSpec
from madang.formats.tensors import TensorType

Layout = Literal["interleaved", "half"]

_ROPE_FREQS = "rope_freqs.weight"  # Llama 3's scaling, as divisors of the base frequencies
_SHORT, _LONG = "rope_factors_short.weight", "rope_factors_long.weight"


@dataclass(frozen=True, slots=True)
class Rotation:
    """The usual rotation, and the one of long sequences if there is one."""

    rope: RopeSpec
    long: LongRope | None = None


def gguf_rope(file: GGUFFile, head_dim: int, layout: Layout) -> Rotation:
    """The rotation in the metadata ``<architecture>.rope.*`` and in the tensors that go with it."""
    arch = file.architecture
    base = file.get_float(f"{arch}.rope.freq_base", 10_000.0, low=2)
    n_dims = file.get_int(f"{arch}.rope.dimension_count", head_dim, low=2, high=head_dim)
    _require_pairs(file, n_dims)
    frequencies = base_frequencies(base, n_dims)
    if _LONG in file.tensors or _SHORT in file.tensors:
        return _gguf_long_rope(file, frequencies, layout)
    if _ROPE_FREQS in file.tensors:
        frequencies = frequencies / _read_factors(file, _ROPE_FREQS, n_dims // 2)
    kind = file.get_str(f"{arch}.rope.scaling.type", "none")
    factor = file.get_float(
        f"{arch}.rope.scaling.factor", file.get_float(f"{arch}.rope.scale_linear", 1.0), low=1, high=1e6
    )
    magnitude = 1.0
    match kind:
        case "none" if factor == 1:
            pass
        case "none" | "linear":
            frequencies = scale_linear(frequencies, factor)
        case "yarn":
            yarn = _gguf_yarn(file, factor, base)
            frequencies = yarn.scale(frequencies)
            magnitude = yarn.magnitude * file.get_float(f"{arch}.rope.scaling.attn_factor", 1.0, low=0.001)
        case _:
            raise unsupported(file, f"the rope scaling '{kind}'")
    return Rotation(RopeSpec(layout, tuple(frequencies.tolist()), magnitude))


def _gguf_yarn(file: GGUFFile, factor: float, base: float) -> Yarn:
    prefix = f"{file.architecture}.rope.scaling."
    require_neutral(
        file,
        {f"{prefix}yarn_ext_factor": (1, -1), f"{prefix}yarn_attn_factor": (1,), f"{prefix}yarn_log_multiplier": (0,)},
    )
    return Yarn(
        factor,
        base,
        file.require_int(f"{prefix}original_context_length", low=1),
        beta_fast=file.get_float(f"{prefix}yarn_beta_fast", 32.0, low=0.001),
        beta_slow=file.get_float(f"{prefix}yarn_beta_slow", 1.0, low=0.001),
    )


def _gguf_long_rope(file: GGUFFile, frequencies: Frequencies, layout: Layout) -> Rotation:
    prefix = f"{file.architecture}.rope.scaling."
    magnitude = file.get_float(f"{prefix}attn_factor", 1.0, low=0.001, high=1e6)
    short, long = (
        RopeSpec(layout, tuple((frequencies / _read_factors(file, name, len(frequencies))).tolist()), magnitude)
        for name in (_SHORT, _LONG)
    )
    original = file.require_int(f"{prefix}original_context_length", low=1)
    return Rotation(short, LongRope(original, long))


def _read_factors(file: GGUFFile, name: str, n_pairs: int) -> Frequencies:
    tensor = file.tensors.get(name)
    if tensor is None:
        raise MalformedFile(file.path, f"the tensor '{name}' is missing")
    if tensor.type != TensorType.F32 or tensor.shape != (n_pairs,):
        raise MalformedFile(file.path, f"'{name}' is not {n_pairs} float32 values")
    factors = np.fromfile(tensor.path, "<f4", n_pairs, offset=tensor.offset_bytes).astype(np.float64)
    return _positive(file, name, factors)


def _positive(source: CheckedMetadata, name: str, factors: Frequencies) -> Frequencies:
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise MalformedFile(source.path, f"'{name}' has values that are not positive")
    return factors


def _require_pairs(source: CheckedMetadata, n_dims: int) -> None:
    if n_dims % 2 or not n_dims:
        raise MalformedFile(source.path, f"{n_dims} elements of a head cannot be rotated in pairs")


def folder_rope(
    folder: ModelFolder, head_dim: int, *, section: str = "", theta: float = 10_000.0, partial: float = 1.0
) -> Rotation:
    """The rotation in config.json: ``rope_parameters`` as transformers 5 writes it, or ``rope_theta`` and
    ``rope_scaling`` as before.

    section          the part of ``rope_parameters`` that is meant, where each type of layer has one
    theta, partial   base and rotated part of a head, where the file does not say them
    """
    settings = _rope_settings(folder, section)
    base = settings.get_float("rope_theta", folder.get_float("rope_theta", theta, low=2), low=2)
    part = settings.get_float(
        "partial_rotary_factor", folder.get_float("partial_rotary_factor", partial, low=0, high=1), low=0, high=1
    )
    n_dims = int(head_dim * part)
    _require_pairs(folder, n_dims)
    frequencies = base_frequencies(base, n_dims)
    kind = settings.get_str("rope_type", settings.get_str("type", "default"))
    if kind in ("longrope", "su"):
        return _folder_long_rope(folder, settings, frequencies)
    magnitude = 1.0
    match kind:
        case "default" | "dynamic":  # dynamic scaling begins past max_position_embeddings, where our context ends
            pass
        case "linear":
            frequencies = scale_linear(frequencies, settings.require_float("factor", low=1, high=1e6))
        case "llama3":
            frequencies = _llama3(folder, settings).scale(frequencies)
        case "yarn":
            yarn = _yarn(folder, settings, base)
            frequencies = yarn.scale(frequencies)
            magnitude = settings.get_float("attention_factor", yarn.magnitude, low=0.001)
        case _:
            raise unsupported(folder, f"the rope scaling '{kind}'")
    return Rotation(RopeSpec("half", tuple(frequencies.tolist()), magnitude))


def _rope_settings(folder: ModelFolder, section: str) -> ModelFolder:
    both = folder.section("rope_parameters")
    if both.metadata:
        return both.section(section) if section else both
    # Before transformers 5, scaling belonged to the layers that see everything.
    return folder.section("rope_scaling") if section != "sliding_attention" else replace(folder, metadata={})


def _original_context(folder: ModelFolder, settings: ModelFolder) -> int:
    own = folder.get_int("original_max_position_embeddings", None, low=2)
    if own is not None:
        return own
    written = settings.get_int("original_max_position_embeddings", None, low=2)
    return folder.require_int("max_position_embeddings", low=2) if written is None else written


def _llama3(folder: ModelFolder, settings: ModelFolder) -> Llama3:
    low = settings.require_float("low_freq_factor", low=0, high=1e6)
    high = settings.require_float("high_freq_factor", low=0, high=1e6)
    if high <= low:
        raise MalformedFile(folder.path, f"rope settings go from {low} turns to {high}")
    factor = settings.require_float("factor", low=1, high=1e6)
    return Llama3(factor, low, high, _original_context(folder, settings))


def _yarn(folder: ModelFolder, settings: ModelFolder, base: float) -> Yarn:
    if settings.get_bool("truncate", True) is False or settings.get_float("mscale", None) is not None:
        raise unsupported(folder, "this variant of rope scaling 'yarn'")
    original = _original_context(folder, settings)
    implied = folder.require_int("max_position_embeddings", low=1) / original
    return Yarn(
        settings.get_float("factor", implied, low=1, high=1e6),
        base,
        original,
        beta_fast=settings.get_float("beta_fast", 32.0, low=0.001),
        beta_slow=settings.get_float("beta_slow", 1.0, low=0.001),
    )


def _folder_long_rope(folder: ModelFolder, settings: ModelFolder, frequencies: Frequencies) -> Rotation:
    original = _original_context(folder, settings)
    context = folder.require_int("max_position_embeddings", low=1)
    factor = settings.get_float("factor", context / original, low=0.001, high=1e6)
    magnitude = settings.get_float("attention_factor", long_rope_magnitude(factor, original), low=0.001)
    ropes: list[RopeSpec] = []
    for name in ("short_factor", "long_factor"):
        factors = settings.get_floats(name, None)
        if factors is None or len(factors) != len(frequencies):
            raise MalformedFile(folder.path, f"'{name}' of its rope settings is not {len(frequencies)} numbers")
        scaled = frequencies / _positive(folder, name, factors)
        ropes.append(RopeSpec("half", tuple(scaled.tolist()), magnitude))
    return Rotation(ropes[0], LongRope(original, ropes[1]))
