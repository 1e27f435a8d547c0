"""Random requests of every kind, good and bad, each with what may come of it."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from madang.core import AdapterChoice, Completion, JsonSchema, Message, Regex, Request, SamplingParams
from madang.core.errors import AdapterMismatch, ContextLengthExceeded, InvalidRequest, MadangError, UnknownOption
from madang.formats.spec import DecoderSpec

WORDS = tuple(
    "river stone lamp winter copper garden seven quiet letter morning bridge music paper salt engine glass north "  # noqa: SIM905
    "wheel cloud sister orange book window harbor thread silver forest candle number mountain story".split()
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PATTERN = r"(yes|no|maybe), [a-z]{1,6} [0-9]{1,3}"
BAD_CONSTRAINTS = (
    JsonSchema({"type": "strin"}),
    JsonSchema({"$ref": "#/$defs/nowhere"}),
    JsonSchema({"type": "integer", "minimum": 3, "maximum": 2}),
    Regex("(unclosed"),
    Regex("(?=ahead)x"),
)
ADAPTERS = ("first", "second")
N_PREFIXES = 6


@dataclass(frozen=True, slots=True)
class Sizes:
    """words of a prompt at most, tokens of an answer at most, and words that no context holds."""

    words: int
    answer_tokens: int
    too_many_words: int


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a client does.

    action       "answer", "score", or "guest": answer with an adapter of its own, which comes and goes
    leave_after  events after which the client closes the stream; None reads it to the end
    error        what is raised, and nothing else; None when there must be an answer
    """

    number: int
    kind: str
    request: Request
    action: str = "answer"
    leave_after: int | None = None
    error: type[MadangError] | None = None
    continuations: tuple[str, ...] = ()


Change = Callable[[Case, random.Random, Sizes], Case]


def make_case(seed: int, number: int, sizes: Sizes) -> Case:
    """The same for the same seed and number."""
    chance = random.Random(f"{seed} {number}")
    kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    text = _prefix(seed, chance.randrange(N_PREFIXES), sizes) if chance.random() < 0.5 else ""
    text = f"{text} {_words(chance, chance.randint(1, sizes.words // 2))}".strip()
    request = Request(
        prompt=text,
        sampling=_sampling(chance),
        max_tokens=chance.randint(1, sizes.answer_tokens),
        stop=(" the",) if chance.random() < 0.1 else (),
        priority="background" if chance.random() < 0.2 else "chat",
        adapter=AdapterChoice(chance.choice(ADAPTERS), chance.choice((1.0, 0.5))) if chance.random() < 0.2 else None,
    )
    return KINDS[kind][1](Case(number, kind, request), chance, sizes)


def is_in_form(case: Case, completion: Completion) -> bool:
    """Whether an answer that ended by itself has the form that was asked for."""
    constraint, is_whole = case.request.constraint, completion.done.finish_reason == "stop"
    if constraint is None or not is_whole or completion.done.stop_text is not None:
        return True
    if isinstance(constraint, Regex):
        return re.fullmatch(constraint.pattern, completion.text) is not None
    found = json.loads(completion.text)
    return list(found) == SCHEMA["required"] and len(found["name"]) <= 8 and 0 <= found["age"] <= 99


def write_adapter(folder: Path, spec: DecoderSpec, seed: int, *, wrong_by: int = 0) -> Path:
    """A PEFT folder with random factors of rank 4; inputs are ``wrong_by`` wider than the model's."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    factors: dict[str, np.ndarray[Any, Any]] = {}
    for layer in range(spec.n_layers):
        for part, rows in (("self_attn.q_proj", spec.n_heads * spec.head_dim), ("mlp.up_proj", spec.n_ff)):
            name = f"base_model.model.model.layers.{layer}.{part}"
            factors[f"{name}.lora_A.weight"] = rng.normal(0, 0.1, (4, spec.n_embd + wrong_by)).astype("<f4")
            factors[f"{name}.lora_B.weight"] = rng.normal(0, 0.1, (rows, 4)).astype("<f4")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    header: dict[str, Any] = {}
    end = 0
    for name, values in factors.items():
        begin, end = end, end + values.nbytes
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in factors.values())
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def _words(chance: random.Random, n: int) -> str:
    return " ".join(chance.choices(WORDS, k=n))


def _prefix(seed: int, number: int, sizes: Sizes) -> str:
    return f"{number}: {_words(random.Random(f'prefix {seed} {number}'), sizes.words // 2)}."


def _sampling(chance: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=chance.choice((0.0, 0.0, 0.7, 1.3)),
        top_p=chance.choice((1.0, 0.9)),
        top_k=chance.choice((0, 40)),
        repeat_penalty=chance.choice((1.0, 1.0, 1.2)),
        seed=chance.getrandbits(40),
        logprobs=chance.choice((None, None, 0, 3)),
    )


# ---- kinds


def _raw(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    return case


def _chat(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    messages = [Message("user", case.request.prompt or "")]
    for _ in range(chance.randrange(3)):
        messages += [Message("assistant", _words(chance, 3)), Message("user", _words(chance, 4))]
    return replace(case, request=replace(case.request, prompt=None, messages=tuple(messages)))


def _repeating(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    """What guessing is good at."""
    request = replace(
        case.request, prompt="red green blue " * max(sizes.words // 6, 2), sampling=SamplingParams(temperature=0)
    )
    return replace(case, request=replace(request, max_tokens=sizes.answer_tokens))


def _constrained(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    constraint = chance.choice((JsonSchema(SCHEMA), Regex(PATTERN)))
    return replace(case, request=replace(case.request, constraint=constraint, max_tokens=3 * sizes.answer_tokens))


def _leaving(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    if chance.random() < 0.5:
        case = _chat(case, chance, sizes)
    request = replace(case.request, max_tokens=4 * sizes.answer_tokens)
    return replace(case, request=request, leave_after=chance.randrange(6))


def _scored(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    texts = tuple(f" {_words(chance, chance.randint(1, 3))}" for _ in range(chance.randint(1, 4)))
    return replace(case, action="score", continuations=texts)


def _prompt_only(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    return replace(case, request=replace(case.request, max_tokens=0))


def _guest(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    request = replace(case.request, adapter=AdapterChoice(f"guest {case.number}"))
    return replace(case, request=request, action="guest")


def _too_long(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    request = replace(case.request, prompt=_words(chance, sizes.too_many_words))
    return replace(case, request=request, error=ContextLengthExceeded)


def _bad_constraint(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    request = replace(case.request, constraint=chance.choice(BAD_CONSTRAINTS), adapter=None)
    return replace(case, request=request, error=InvalidRequest)


def _bad_bias(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    sampling = replace(case.request.sampling, logit_bias={10**7: 1.0})
    return replace(case, request=replace(case.request, sampling=sampling), error=InvalidRequest)


def _unknown_adapter(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    return replace(case, request=replace(case.request, adapter=AdapterChoice("third")), error=UnknownOption)


def _foreign_adapter(case: Case, chance: random.Random, sizes: Sizes) -> Case:
    return replace(case, action="foreign", error=AdapterMismatch)


KINDS: dict[str, tuple[float, Change]] = {
    "raw": (30, _raw),
    "chat": (20, _chat),
    "repeating": (6, _repeating),
    "constrained": (12, _constrained),
    "leaving": (12, _leaving),
    "scored": (6, _scored),
    "prompt only": (2, _prompt_only),
    "guest adapter": (2, _guest),
    "too long": (3, _too_long),
    "bad constraint": (3, _bad_constraint),
    "bad bias": (1, _bad_bias),
    "unknown adapter": (2, _unknown_adapter),
    "foreign adapter": (1, _foreign_adapter),
}


def sampled_numbers(seed: int, n_requests: int, n: int) -> Sequence[int]:
    """Those that are asked again, alone."""
    return sorted(random.Random(f"again {seed}").sample(range(n_requests), min(n, n_requests)))
