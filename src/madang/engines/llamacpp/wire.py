"""What llama.cpp's server is sent for a request, and what it is not asked because it would not do it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from madang.core.constraint import Constraint, JsonSchema
from madang.core.errors import InvalidRequest
from madang.core.request import Request
from madang.core.sampling import DRAWING, SamplingParams

# Bias comes before all of them. The same order as in the native engine.
_SAMPLERS: Final = ("penalties", "temperature", "top_k", "top_p", "min_p")
_SEEDS: Final = 2**32 - 1  # llama.cpp's seeds have 32 bits, and the last of them means a random one
# Keywords that its grammars enforce, and those that say nothing about what is allowed.
_ENFORCED: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"}
    | {"enum", "const", "anyOf", "oneOf", "$ref", "$defs", "definitions", "minLength", "maxLength"}
)
_NOTES: Final = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated"})
_OF_INTEGERS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_HOLD_SCHEMAS: Final = ("properties", "$defs", "definitions")
_MAX_DEPTH: Final = 64


def completion_body(
    tokens: Sequence[int],
    sampling: SamplingParams,
    *,
    n_predict: int,
    n_said: int = 0,
    constraint: Constraint | None = None,
    shown: Sequence[str] = (),
) -> dict[str, Any]:
    """The body of ``POST /completion``.

    sampling   resolved, with a seed
    n_said     tokens of the answer that are part of the prompt already: what follows is another draw
    shown      control tokens to spell out
    """
    body: dict[str, Any] = {name: getattr(sampling, name) for name in DRAWING}
    body |= {
        "prompt": list(tokens),
        "n_predict": n_predict,
        "seed": ((sampling.seed or 0) + n_said) % _SEEDS,
        "samplers": list(_SAMPLERS),
        "stream": True,
        "cache_prompt": True,
        "timings_per_token": True,
        "preserved_tokens": list(shown),
    }
    if sampling.logit_bias:
        body["logit_bias"] = [[token, _bias(bias)] for token, bias in sampling.logit_bias.items()]
    if sampling.logprobs is not None:
        body["n_probs"] = max(sampling.logprobs, 1)  # with 0 there are none at all
    if isinstance(constraint, JsonSchema):
        body["json_schema"] = dict(constraint.schema)
    return body


def _bias(bias: float) -> float | bool:
    return False if math.isinf(bias) else bias


def refuse_what_is_not_done(request: Request, *, thinks: bool) -> None:
    """Raises InvalidRequest; ``thinks`` says that the prompt ends inside the model's reasoning."""
    asked = {
        "adapter": request.adapter is not None,
        "tool_choice": request.tool_choice not in ("auto", "none"),
    }
    for param, is_asked in asked.items():
        if is_asked:
            raise InvalidRequest(f"The llamacpp engine does not do '{param}'.", param=param, hint=_NATIVE)
    if request.constraint is None:
        return
    if not isinstance(request.constraint, JsonSchema):
        kind = type(request.constraint).__name__.lower()
        raise InvalidRequest(
            f"The llamacpp engine holds answers to JSON schemas, not to a {kind}.", param="constraint", hint=_NATIVE
        )
    if thinks:
        raise InvalidRequest(
            "The llamacpp engine cannot hold an answer to a schema after reasoning.",
            param="constraint",
            hint="Turn reasoning off for this request.",
        )
    unknown = next(_not_enforced(request.constraint.schema, 0), None)
    if unknown is not None:
        raise InvalidRequest(
            f"The llamacpp engine cannot enforce {unknown} of a schema.", param="constraint", hint=_NATIVE
        )


_NATIVE: Final = "The native engine does, for the families that it runs."


def _not_enforced(schema: object, depth: int) -> Iterator[str]:
    """Keywords that its converter would pass over in silence."""
    if depth > _MAX_DEPTH:
        yield f"more than {_MAX_DEPTH} levels"
        return
    if not isinstance(schema, Mapping):
        return
    for keyword, value in schema.items():
        if keyword in _OF_INTEGERS:
            if schema.get("type") != "integer":
                yield f"'{keyword}' of what is not an integer"
        elif keyword not in _ENFORCED | _NOTES:
            yield f"'{keyword}'"
        elif keyword in _HOLD_SCHEMAS and isinstance(value, Mapping):
            for part in value.values():
                yield from _not_enforced(part, depth + 1)
        elif keyword not in _NOTES | {"enum", "const"}:
            for part in value if isinstance(value, list) else [value]:
                yield from _not_enforced(part, depth + 1)
