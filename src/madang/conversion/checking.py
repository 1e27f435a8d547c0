"""Whether two descriptions are of the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from math import isclose
from typing import Final

from madang.core.errors import CannotConvert, UnsupportedModel
from madang.formats.spec import DecoderSpec, LongRope, ModelDescription, RopeSpec

# What float32 loses of a setting.
_TOLERANCE: Final = 1e-5
# The name, how pairs lie, and what the rotations come from: those may differ.
_FREE: Final = frozenset({"architecture", "rope_settings"})


def require_same_model(source: ModelDescription, read_target: Callable[[], ModelDescription], form: str) -> None:
    """Raise CannotConvert for the first thing that the target, read back, says otherwise; ``form`` names its format."""
    try:
        target = read_target()
    except UnsupportedModel as error:
        raise CannotConvert(
            f"{form} would hold something that no reader of such a model knows ({error.what})"
        ) from error
    for name in (field.name for field in fields(DecoderSpec) if field.name not in _FREE):
        before, after = getattr(source.spec, name), getattr(target.spec, name)
        if not _same(before, after):
            raise CannotConvert(f"{form} has no way to say its {name.replace('_', ' ')} ({_shown(before, after)})")
    if source.tensors.keys() != target.tensors.keys():
        name = min(source.tensors.keys() ^ target.tensors.keys())
        raise CannotConvert(f"its tensor '{name}' got lost on the way to {form}")


def _same(before: object, after: object) -> bool:
    if isinstance(before, float) and isinstance(after, float | int):
        return isclose(before, after, rel_tol=_TOLERANCE)
    if isinstance(before, tuple) and isinstance(after, tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, RopeSpec) and isinstance(after, RopeSpec):
        return _same((before.magnitude, before.inverse_frequencies), (after.magnitude, after.inverse_frequencies))
    if isinstance(before, LongRope) and isinstance(after, LongRope):
        return before.from_tokens == after.from_tokens and _same(before.rope, after.rope)
    return before == after


def _shown(before: object, after: object) -> str:
    shown = [repr(value) for value in (before, after)]
    return f"{shown[0]}, it would be read as {shown[1]}" if max(map(len, shown)) < 80 else "another in each layer"
