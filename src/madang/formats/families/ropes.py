"""How a source describes its rotary embedding, in GGUF metadata and in config.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from madang.core.errors import CannotConvert, MalformedFile
from madang.formats.families.sources import require_neutral, unsupported
from madang.formats.folder import ModelFolder
from madang.formats.gguf import GGUFFile
from madang.formats.metadata import CheckedMetadata
from madang.formats.rope import Frequencies, RopeSettings, base_frequencies, long_rope_magnitude
from madang.formats.spec import LongRope, RopeSpec
from madang.formats.tensors import TensorType

Layout = Literal["interleaved", "half"]

ROPE_FREQS: Final = "rope_freqs.weight"  # Llama 3's scaling, as divisors of the base frequencies
SHORT_FACTORS: Final = "rope_factors_short.weight"  # LongRoPE's
LONG_FACTORS: Final = "rope_factors_long.weight"


@dataclass(frozen=True, slots=True)
class Rotation:
    """The usual rotation, the one of long sequences if there is one, and how the source says them."""

    rope: RopeSpec
    long: LongRope | None
    settings: RopeSettings

    @classmethod
    def of(cls, settings: RopeSettings, layout: Layout) -> Rotation:
        """What these settings mean."""
        magnitude = settings.stated_magnitude
        rope = RopeSpec(layout, tuple(settings.frequencies.tolist()), magnitude)
        if settings.kind != "longrope":
            return cls(rope, None, settings)
        long = RopeSpec(layout, tuple(settings.long_frequencies.tolist()), magnitude)
        return cls(rope, LongRope(settings.original_context_tokens, long), settings)


def gguf_rope(file: GGUFFile, head_dim: int, layout: Layout) -> Rotation:
    """The rotation in the metadata ``<architecture>.rope.*`` and in the tensors that go with it."""
    return Rotation.of(_gguf_settings(file, head_dim), layout)


def _gguf_settings(file: GGUFFile, head_dim: int) -> RopeSettings:
    arch = file.architecture
    base = file.get_float(f"{arch}.rope.freq_base", 10_000.0, low=2)
    n_dims = file.get_int(f"{arch}.rope.dimension_count", head_dim, low=2, high=head_dim)
    _require_pairs(file, n_dims)
    settings = RopeSettings(base, n_dims)
    if LONG_FACTORS in file.tensors or SHORT_FACTORS in file.tensors:
        return _gguf_long_rope(file, settings)
    kind = file.get_str(f"{arch}.rope.scaling.type", "none")
    factor = file.get_float(
        f"{arch}.rope.scaling.factor", file.get_float(f"{arch}.rope.scale_linear", 1.0), low=1, high=1e6
    )
    if ROPE_FREQS in file.tensors:
        divisors = _read_factors(file, ROPE_FREQS, n_dims // 2)
        if kind == "yarn":
            raise unsupported(file, f"the rope scaling 'yarn' beside '{ROPE_FREQS}'")
        linear = factor if kind in ("none", "linear") else 1.0
        return replace(settings, kind="divided", divisors=tuple((divisors * linear).tolist()))
    match kind:
        case "none" if factor == 1:
            return settings
        case "none" | "linear":
            return replace(settings, kind="linear", factor=factor)
        case "yarn":
            return _gguf_yarn(file, settings, factor)
    raise unsupported(file, f"the rope scaling '{kind}'")


def _gguf_yarn(file: GGUFFile, settings: RopeSettings, factor: float) -> RopeSettings:
    prefix = f"{file.architecture}.rope.scaling."
    require_neutral(
        file,
        {f"{prefix}yarn_ext_factor": (1, -1), f"{prefix}yarn_attn_factor": (1,), f"{prefix}yarn_log_multiplier": (0,)},
    )
    settings = replace(
        settings,
        kind="yarn",
        factor=factor,
        original_context_tokens=file.require_int(f"{prefix}original_context_length", low=1),
        beta_fast=file.get_float(f"{prefix}yarn_beta_fast", 32.0, low=0.001),
        beta_slow=file.get_float(f"{prefix}yarn_beta_slow", 1.0, low=0.001),
    )
    stated = file.get_float(f"{prefix}attn_factor", None, low=0.001)
    return settings if stated is None else replace(settings, magnitude=settings.yarn.magnitude * stated)


def _gguf_long_rope(file: GGUFFile, settings: RopeSettings) -> RopeSettings:
    prefix = f"{file.architecture}.rope.scaling."
    n_pairs = settings.n_dims // 2
    short, long = (tuple(_read_factors(file, name, n_pairs).tolist()) for name in (SHORT_FACTORS, LONG_FACTORS))
    return replace(
        settings,
        kind="longrope",
        original_context_tokens=file.require_int(f"{prefix}original_context_length", low=1),
        magnitude=file.get_float(f"{prefix}attn_factor", 1.0, low=0.001, high=1e6),
        divisors=short,
        long_divisors=long,
    )


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
    return Rotation.of(_folder_settings(folder, head_dim, section=section, theta=theta, partial=partial), "half")


def _folder_settings(folder: ModelFolder, head_dim: int, *, section: str, theta: float, partial: float) -> RopeSettings:
    settings = _rope_settings(folder, section)
    base = settings.get_float("rope_theta", folder.get_float("rope_theta", theta, low=2), low=2)
    part = settings.get_float(
        "partial_rotary_factor", folder.get_float("partial_rotary_factor", partial, low=0, high=1), low=0, high=1
    )
    n_dims = int(head_dim * part)
    _require_pairs(folder, n_dims)
    plain = RopeSettings(base, n_dims)
    kind = settings.get_str("rope_type", settings.get_str("type", "default"))
    match kind:
        case "default" | "dynamic":  # dynamic scaling begins past max_position_embeddings, where our context ends
            return plain
        case "linear":
            return replace(plain, kind="linear", factor=settings.require_float("factor", low=1, high=1e6))
        case "llama3":
            return _llama3(folder, settings, plain)
        case "yarn":
            return _yarn(folder, settings, plain)
        case "longrope" | "su":
            return _folder_long_rope(folder, settings, plain)
    raise unsupported(folder, f"the rope scaling '{kind}'")


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


def _llama3(folder: ModelFolder, settings: ModelFolder, plain: RopeSettings) -> RopeSettings:
    low = settings.require_float("low_freq_factor", low=0, high=1e6)
    high = settings.require_float("high_freq_factor", low=0, high=1e6)
    if high <= low:
        raise MalformedFile(folder.path, f"rope settings go from {low} turns to {high}")
    return replace(
        plain,
        kind="llama3",
        factor=settings.require_float("factor", low=1, high=1e6),
        low_turns=low,
        high_turns=high,
        original_context_tokens=_original_context(folder, settings),
    )


def _yarn(folder: ModelFolder, settings: ModelFolder, plain: RopeSettings) -> RopeSettings:
    if settings.get_bool("truncate", True) is False or settings.get_float("mscale", None) is not None:
        raise unsupported(folder, "this variant of rope scaling 'yarn'")
    original = _original_context(folder, settings)
    implied = folder.require_int("max_position_embeddings", low=1) / original
    return replace(
        plain,
        kind="yarn",
        factor=settings.get_float("factor", implied, low=1, high=1e6),
        original_context_tokens=original,
        magnitude=settings.get_float("attention_factor", None, low=0.001),
        beta_fast=settings.get_float("beta_fast", 32.0, low=0.001),
        beta_slow=settings.get_float("beta_slow", 1.0, low=0.001),
    )


def _folder_long_rope(folder: ModelFolder, settings: ModelFolder, plain: RopeSettings) -> RopeSettings:
    original = _original_context(folder, settings)
    context = folder.require_int("max_position_embeddings", low=1)
    factor = settings.get_float("factor", context / original, low=0.001, high=1e6)
    n_pairs = plain.n_dims // 2
    divisors: list[tuple[float, ...]] = []
    for name in ("short_factor", "long_factor"):
        factors = settings.get_floats(name, None)
        if factors is None or len(factors) != n_pairs:
            raise MalformedFile(folder.path, f"'{name}' of its rope settings is not {n_pairs} numbers")
        divisors.append(tuple(_positive(folder, name, factors).tolist()))
    return replace(
        plain,
        kind="longrope",
        original_context_tokens=original,
        magnitude=settings.get_float("attention_factor", long_rope_magnitude(factor, original), low=0.001),
        divisors=divisors[0],
        long_divisors=divisors[1],
    )


def gguf_rope_keys(settings: RopeSettings) -> tuple[dict[str, int | float | str], dict[str, tuple[float, ...]]]:
    """The metadata below ``<architecture>.`` and the float32 tensors that say this rotation."""
    keys: dict[str, int | float | str] = {"rope.freq_base": settings.base, "rope.dimension_count": settings.n_dims}
    match settings.kind:
        case "linear":
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": settings.factor}
        case "llama3" | "divided":
            plain = base_frequencies(settings.base, settings.n_dims)
            return keys, {ROPE_FREQS: tuple((plain / settings.frequencies).tolist())}
        case "yarn":
            keys |= {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": settings.factor,
                "rope.scaling.original_context_length": settings.original_context_tokens,
                "rope.scaling.yarn_beta_fast": settings.beta_fast,
                "rope.scaling.yarn_beta_slow": settings.beta_slow,
            }
            if settings.magnitude is not None:
                keys["rope.scaling.attn_factor"] = settings.magnitude / settings.yarn.magnitude
        case "longrope":
            keys |= {
                "rope.scaling.original_context_length": settings.original_context_tokens,
                "rope.scaling.attn_factor": settings.stated_magnitude,
            }
            return keys, {SHORT_FACTORS: settings.divisors, LONG_FACTORS: settings.long_divisors}
    return keys, {}


def folder_rope_keys(settings: RopeSettings, head_dim: int) -> dict[str, Any]:
    """The settings of config.json that say this rotation. Raises CannotConvert where none do."""
    rope: dict[str, Any] = {"rope_type": settings.kind, "rope_theta": settings.base}
    if settings.n_dims != head_dim:
        rope["partial_rotary_factor"] = settings.n_dims / head_dim
    original = {"original_max_position_embeddings": settings.original_context_tokens}
    match settings.kind:
        case "divided":
            return folder_rope_keys(_as_llama3(settings), head_dim)
        case "linear":
            rope["factor"] = settings.factor
        case "llama3":
            turns = {"low_freq_factor": settings.low_turns, "high_freq_factor": settings.high_turns}
            rope |= {"factor": settings.factor, **turns, **original}
        case "yarn":
            betas = {"beta_fast": settings.beta_fast, "beta_slow": settings.beta_slow}
            rope |= {"factor": settings.factor, **betas, **original}
            if settings.magnitude is not None:
                rope["attention_factor"] = settings.magnitude
        case "longrope":
            factors = {"short_factor": list(settings.divisors), "long_factor": list(settings.long_divisors)}
            rope |= {"attention_factor": settings.stated_magnitude, **factors, **original}
    # The first is what transformers 5 writes; what came before it reads the others.
    keys = {"rope_parameters": rope, "rope_theta": settings.base}
    if settings.kind not in ("default", "longrope"):
        keys["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return keys


def _as_llama3(settings: RopeSettings) -> RopeSettings:
    """Divisors that Llama 3's scaling gives, as its settings. Raises CannotConvert for others.

    All models so far have its low and high turns at 1 and 4; between them, the kept part of a frequency grows linearly
    with it, and says the original context.
    """
    divisors = np.array(settings.divisors, np.float64)
    frequencies = base_frequencies(settings.base, settings.n_dims)
    factor = float(divisors.max())
    kept = (1 / divisors - 1 / factor) / (1 - 1 / factor) if factor > 1 else np.ones_like(divisors)
    inside = (kept > 0.01) & (kept < 0.99)
    turns = settings.low_turns + kept[inside] * (settings.high_turns - settings.low_turns)
    guesses = [float(np.median(turns * 2 * np.pi / frequencies[inside]))] if inside.any() else [8192.0, 4096.0, 2048.0]
    for original in guesses:
        found = replace(settings, kind="llama3", factor=factor, original_context_tokens=round(original))
        if np.allclose(frequencies / found.frequencies, divisors, rtol=1e-5):
            return found
    raise CannotConvert(f"config.json has no word for the divisors of its frequencies ('{ROPE_FREQS}')")
