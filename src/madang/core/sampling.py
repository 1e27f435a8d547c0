"""How the next token is chosen: parameters, their limits and their defaults, each standing here only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from madang.core.errors import InvalidRequest, UnknownOption


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """None means "not set": the model's own default, then :data:`SAMPLING_DEFAULTS`, fills it in.

    temperature         0 is greedy: the most likely token, always
    top_k               keep the k most likely tokens; 0 keeps all
    top_p               keep the smallest set whose probability reaches p (nucleus, arXiv:1904.09751); 1 keeps all
    min_p               keep tokens at least min_p times as likely as the best (arXiv:2407.01082); 0 keeps all
    repeat_penalty      divide positive, multiply negative logits of recent tokens (CTRL, arXiv:1909.05858); 1 is off
    repeat_last_n       how many recent tokens the three penalties look at; 0 is off, -1 is the whole context
    presence_penalty    subtract once from the logit of every recent token
    frequency_penalty   subtract per occurrence
    seed                same seed, same request -> same tokens; None draws a fresh one, 0 is a seed like any other
    logit_bias          token id -> value added to its logit; minus infinity excludes the token
    logprobs            report the log-probability of each token and of this many alternatives; None is off
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in SAMPLING_LIMITS.items():
            value = getattr(self, name)
            if value is not None and not (_is_number(value, whole=name in _WHOLE) and low <= value <= high):
                kind = "a whole number" if name in _WHOLE else "a number"
                raise InvalidRequest(f"{name} is {value!r}, but must be {kind} between {low} and {high}.", param=name)
        for token, bias in (self.logit_bias or {}).items():
            if not (_is_number(token, whole=True) and _is_number(bias) and bias <= MOST_BIAS):
                raise InvalidRequest(
                    f"logit_bias has {bias!r} for token {token!r}, but takes ids, and numbers up to {MOST_BIAS}.",
                    param="logit_bias",
                )

    def resolved(self, model_defaults: SamplingParams | None = None) -> SamplingParams:
        """A copy with unset fields filled from the model's defaults, then from :data:`SAMPLING_DEFAULTS`."""
        own = self if model_defaults is None else self.over(model_defaults)
        return own.over(SAMPLING_DEFAULTS)

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """A copy with unset fields filled from ``defaults``, as far as they are set there."""
        return replace(self, **{name: getattr(defaults, name) for name in FIELDS if getattr(self, name) is None})

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> SamplingParams:
        """From untyped input; an unknown name is an error with a suggestion."""
        for name in options:
            if name not in FIELDS:
                raise UnknownOption("sampling option", name, FIELDS)
        return cls(**options)


def _is_number(value: object, *, whole: bool = False) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(SamplingParams))

# What says how a token is drawn, in plain numbers; the seed says which one, the rest what is told about it.
DRAWING: tuple[str, ...] = tuple(name for name in FIELDS if name not in ("seed", "logit_bias", "logprobs"))

MOST_BIAS = 10_000  # what any logit is far below; -inf excludes a token

SAMPLING_LIMITS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 100),
    "repeat_last_n": (-1, 2**31 - 1),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "seed": (0, 2**64 - 1),
    "logprobs": (0, 20),
}

_WHOLE = frozenset({"top_k", "repeat_last_n", "seed", "logprobs"})

SAMPLING_DEFAULTS = SamplingParams(
    temperature=0.7,
    top_k=40,
    top_p=0.95,
    min_p=0.0,
    repeat_penalty=1.0,
    repeat_last_n=64,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)
