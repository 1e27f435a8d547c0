"""New examples that a model writes: topics -> questions and answers, or texts, each checked before it counts.

What is asked for is fixed by (topic, number, seed), so the same call goes on where an interrupted one ended, and what
an engine answers in the same way comes out the same. Refused attempts are kept in the journal, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from madang.core.constraint import JsonSchema
from madang.core.engine import Engine
from madang.core.errors import InvalidRequest
from madang.core.events import collect
from madang.core.messages import Message
from madang.core.request import Request
from madang.core.sampling import SamplingParams
from madang.training.curation.measures import hangul_share, measure
from madang.training.curation.recipe import Kind, Recipe
from madang.training.examples.example import Example
from madang.training.similarity import NearIndex, jaccard, normalized, shingles

MOST_EXAMPLES: Final = 1_000_000
_MAX_REPEATED_SHARE: Final = 0.3
_MAX_ECHO: Final = 0.6  # of a question in its answer, or of the instruction in either
_MIN_TOPIC_SHARE: Final = 0.3
_STEM_CHARACTERS: Final = 5


@dataclass(frozen=True, slots=True)
class Topic:
    """What to write about, and where it stood."""

    text: str
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of the model: an example, or why it is none (``refused`` and what was said)."""

    number: int
    attempt: int
    example: Example | None
    refused: str | None = None
    said: str = ""


def synthesize(
    engine: Engine, topics: Sequence[Topic], recipe: Recipe, done: Mapping[int, Sequence[Attempt]] | None = None
) -> Iterator[Attempt]:
    """Attempts as they are made, in order; those in ``done``, by number, are not made again.

    Raises InvalidRequest when the engine cannot hold an answer to a form, or there is too much to do, and what the
    engine raises.
    """
    if len(topics) * recipe.per_topic > MOST_EXAMPLES:
        raise InvalidRequest(f"At most {MOST_EXAMPLES} examples are made at once.", param="per_topic")
    known = NearIndex(recipe.max_similarity)
    total = len(topics) * recipe.per_topic
    for number in range(total):
        topic = topics[number // recipe.per_topic]
        made = list((done or {}).get(number, ()))
        for attempt in made:
            if attempt.example is not None:
                known.add(attempt.example.everything)
        while len(made) < recipe.tries and not any(attempt.example is not None for attempt in made):
            seed = (recipe.seed + number + len(made) * total) % 2**64
            attempt = _attempt(engine, topic, recipe, known, (number, len(made), seed))
            if attempt.example is not None:
                known.add(attempt.example.everything)
            made.append(attempt)
            yield attempt


def _attempt(engine: Engine, topic: Topic, recipe: Recipe, known: NearIndex, at: tuple[int, int, int]) -> Attempt:
    number, tried, seed = at
    told = recipe.words(topic.text, number + tried)
    request = Request(
        messages=(Message("user", told),),
        sampling=SamplingParams(temperature=recipe.temperature, seed=seed),
        max_tokens=recipe.max_tokens,
        constraint=_form(recipe) if recipe.is_held else None,
    )
    answer = collect(engine.generate(request))
    fields = _fields(answer.text, recipe.kind)
    refused = "no JSON of that form" if fields is None else _fault(fields, recipe, topic.text, told)
    if answer.done.finish_reason == "length" and (fields is None or not recipe.is_held):
        refused = "not finished"
    if refused is None and fields is not None:
        near = known.nearest("\n".join(fields.values()))
        refused = None if near is None else f"like an earlier one ({near[1]:.2f})"
    if refused is not None or fields is None:
        return Attempt(number, tried, None, refused, answer.text)
    return Attempt(number, tried, _example(fields, engine, topic, recipe, seed))


def _example(fields: Mapping[str, str], engine: Engine, topic: Topic, recipe: Recipe, seed: int) -> Example:
    provenance = {
        "made_by": engine.info.model,
        "engine": engine.info.engine,
        "topic": topic.text,
        "prompt": recipe.prompt_name,
        "temperature": recipe.temperature,
        "seed": seed,
    }
    if recipe.kind == "text":
        return Example(text=fields["text"], source=topic.source, line=topic.line, provenance=provenance)
    turns = (Message("user", fields["question"]), Message("assistant", fields["answer"]))
    return Example(turns, source=topic.source, line=topic.line, provenance=provenance)


def _form(recipe: Recipe) -> JsonSchema:
    """Room for what is wanted and no more: an answer that would be cut is better ended."""
    names = {"qa": ("question", "answer"), "text": ("text",)}[recipe.kind]
    text = {"type": "string", "minLength": 1, "maxLength": recipe.max_characters}
    return JsonSchema(
        {
            "type": "object",
            "properties": {name: {**text, "maxLength": 400} if name == "question" else text for name in names},
            "required": list(names),
            "additionalProperties": False,
        }
    )


def _fields(said: str, kind: Kind) -> dict[str, str] | None:
    """The texts of the first JSON object in an answer that has them all."""
    names = ("question", "answer") if kind == "qa" else ("text",)
    decoder, at = json.JSONDecoder(), said.find("{")
    while at >= 0:
        try:
            found, _ = decoder.raw_decode(said, at)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names):
            return {name: found[name].strip() for name in names}
        at = said.find("{", at + 1)
    return None


def _fault(fields: Mapping[str, str], recipe: Recipe, topic: str, told: str) -> str | None:
    """Why it is no good example; None when it may be one."""
    body = fields["text" if recipe.kind == "text" else "answer"]
    if not all(fields.values()):
        return "empty"
    if not recipe.min_characters <= len(body) <= recipe.max_characters:
        return f"{len(body)} characters"
    found = measure(body)
    if found.repeated_share > _MAX_REPEATED_SHARE or found.repeated_line_share > _MAX_REPEATED_SHARE:
        return f"repetition ({max(found.repeated_share, found.repeated_line_share):.2f})"
    echo = max(_alike(body, told), _alike(body, fields.get("question", "")))
    if echo > _MAX_ECHO:
        return f"repeats what it was asked ({echo:.2f})"
    share = _share_of_topic(topic, "\n".join(fields.values()))
    return None if share >= _MIN_TOPIC_SHARE else f"off the topic ({share:.2f})"


def _alike(one: str, other: str) -> float:
    return jaccard(shingles(normalized(one)), shingles(normalized(other))) if one and other else 0.0


def _share_of_topic(topic: str, text: str) -> float:
    """How much of a topic's words is in the text, in whatever form; 1 for a topic without any.

    Korean words get particles and endings, so their pairs of syllables count; of others, their beginnings do.
    """
    parts: set[str] = set()
    for word in normalized(topic).split():
        if hangul_share(word) > 0:
            parts.update(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif len(word) > 2:  # no "of", no "in"
            parts.add(word[:_STEM_CHARACTERS])
    said = normalized(text)
    return sum(part in said for part in parts) / len(parts) if parts else 1.0
