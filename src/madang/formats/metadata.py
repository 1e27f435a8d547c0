"""Typed reading of metadata that nobody has checked yet.

Families ask for the type and range that they need and get exactly that, or an error that names the file and the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from madang.core.errors import MalformedFile

MetadataValue: TypeAlias = bool | int | float | str | list[str] | npt.NDArray[Any]

_MAX_INT32: Final = 2**31 - 1
_MAX_INT64: Final = 2**63 - 1
_Default = TypeVar("_Default")
_Present = TypeVar("_Present")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedMetadata:
    """Metadata of the file at ``path``.

    ``get_`` returns ``default`` for a missing key, ``require_`` raises MalformedFile. Both raise MalformedFile for a
    value of another type or outside ``low`` to ``high`` (inclusive).
    """

    path: Path
    metadata: Mapping[str, MetadataValue]

    def get_int(self, key: str, default: _Default, *, low: int = 0, high: int = _MAX_INT32) -> int | _Default:
        """A whole number; floats and booleans are not."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong_type(key, value, "a whole number")
        self._check_range(key, value, low, high)
        return value

    def get_float(self, key: str, default: _Default, *, low: float = -inf, high: float = inf) -> float | _Default:
        """A finite number; whole numbers count."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong_type(key, value, "a number")
        if not isfinite(value):
            raise MalformedFile(self.path, f"metadata '{key}' is {value}, expected a finite number")
        self._check_range(key, value, low, high)
        return float(value)

    def get_bool(self, key: str, default: _Default) -> bool | _Default:
        """True or false; the numbers 0 and 1 are not."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong_type(key, value, "true or false")
        return value

    def get_str(self, key: str, default: _Default) -> str | _Default:
        """A text, possibly empty."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong_type(key, value, "a text")
        return value

    def get_strs(self, key: str, default: _Default) -> list[str] | _Default:
        """A list of texts, possibly empty."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, list):
            raise self._wrong_type(key, value, "a list of texts")
        return value

    def get_ints(
        self, key: str, default: _Default, *, low: int = 0, high: int = _MAX_INT32
    ) -> npt.NDArray[np.int64] | _Default:
        """A list of whole numbers, int64[n]."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            raise self._wrong_type(key, value, "a list of whole numbers")
        if value.size:
            self._check_range(key, int(value.min()), low, min(high, _MAX_INT64))
            self._check_range(key, int(value.max()), low, min(high, _MAX_INT64))
        return value.astype(np.int64)

    def get_floats(self, key: str, default: _Default) -> npt.NDArray[np.float64] | _Default:
        """A list of numbers, float64[n]; infinities and whole numbers count, NaN does not."""
        value = self.metadata.get(key)
        if value is None:
            return default
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            raise self._wrong_type(key, value, "a list of numbers")
        if np.isnan(value).any():
            raise MalformedFile(self.path, f"metadata '{key}' holds NaN, expected numbers")
        return value.astype(np.float64)

    def require_int(self, key: str, *, low: int = 0, high: int = _MAX_INT32) -> int:
        """``get_int`` for a key that must be there."""
        return self._require(key, self.get_int(key, None, low=low, high=high))

    def require_float(self, key: str, *, low: float = -inf, high: float = inf) -> float:
        """``get_float`` for a key that must be there."""
        return self._require(key, self.get_float(key, None, low=low, high=high))

    def require_str(self, key: str) -> str:
        """``get_str`` for a key that must be there."""
        return self._require(key, self.get_str(key, None))

    def require_strs(self, key: str) -> list[str]:
        """``get_strs`` for a key that must be there."""
        return self._require(key, self.get_strs(key, None))

    def _require(self, key: str, value: _Present | None) -> _Present:
        if value is None:
            raise MalformedFile(self.path, f"metadata '{key}' is missing")
        return value

    def _check_range(self, key: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            expected = f"at least {low}" if high == inf else f"at most {high}" if low == -inf else f"{low} to {high}"
            raise MalformedFile(self.path, f"metadata '{key}' is {value}, expected {expected}")

    def _wrong_type(self, key: str, value: MetadataValue, expected: str) -> MalformedFile:
        return MalformedFile(self.path, f"metadata '{key}' is {_describe(value)}, expected {expected}")


def _describe(value: MetadataValue) -> str:
    if isinstance(value, np.ndarray):
        return {"b": "a list of true and false", "f": "a list of numbers", "O": "a list of other things"}.get(
            value.dtype.kind, "a list of whole numbers"
        )
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(
        type(value), "a list of texts"
    )
