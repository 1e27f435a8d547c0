"""Answers of a model that knows nothing, held to a form: whatever it draws, the form is there."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madang.core import Completion, Constraint, Grammar, JsonSchema, Regex, Request, SamplingParams, collect
from madang.core.errors import EngineError, InvalidRequest
from madang.core.stopwatch import Stopwatch
from madang.formats.gguf import read_gguf
from madang.formats.tokenizers import tokenizer_from_gguf
from madang.native import NativeEngine, load
from madang.native.batch import compute
from madang.native.constraints import MAX_CHARACTERS, MAX_COMPILED, MAX_DEPTH, Constraints, TokenMask
from madang.native.scheduler import Scheduler
from madang.native.sequence import Share
from madang.native.speculation import MOST_DRAFTS
from tests.formats.vocabularies import tokenizer as small_tokenizer
from tests.native.conftest import as_files, as_plan

HOT = SamplingParams(temperature=2.0, top_p=0.98)


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path) -> Iterator[NativeEngine]:
    """The tiny random model with room for long answers."""
    engine = load(as_files(tiny_gguf), as_plan(context_tokens=1000))
    yield engine
    engine.close()


def ask(engine: NativeEngine, constraint: Constraint, seed: int = 0, **options: Any) -> Completion:
    sampling = options.pop("sampling", None) or SamplingParams(temperature=2.0, top_p=0.98, seed=seed)
    options = {"max_tokens": 400, **options}
    return collect(engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling, **options)))


def check_json(completion: Completion, schema: dict[str, Any]) -> bool:
    """Whether it ended by itself, and then it is valid; cut by the limit it may be anything."""
    if completion.done.finish_reason == "length":
        return False
    jsonschema.validate(json.loads(completion.text), schema, jsonschema.Draft202012Validator)
    return True


# ---- JSON


WORD = {"type": "string", "maxLength": 8}
SCHEMAS: dict[str, dict[str, Any]] = {
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -40, "maximum": 1234},
    "number": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    "word": WORD,
    "korean": {"type": "string", "pattern": "^[가-힣]{2,5}$"},
    "date": {"type": "string", "format": "date"},
    "enum": {"enum": ["빨강", "초록", 3, None, {"a": [1]}]},
    "const": {"const": {"인사": "안녕하세요", "n": 1}},
    "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    "tuple": {"type": "array", "prefixItems": [WORD, {"type": "null"}], "items": False, "minItems": 2},
    "object": {
        "type": "object",
        "properties": {"이름": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 150}, "tag": WORD},
        "required": ["이름", "age"],
        "additionalProperties": False,
    },
    "one optional": {"type": "object", "properties": {"a": WORD}, "additionalProperties": False},
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 3},
    "either": {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 3}]},
    "both": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/node"}, "v": {"type": "null"}},
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "types": {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    "uuid": {"type": "string", "format": "uuid"},
    "nested": {
        "type": "object",
        "properties": {
            "rows": {
                "type": "array",
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {"x": {"enum": [1, 2]}},
                    "required": ["x"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["rows"],
        "additionalProperties": False,
    },
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_json_is_what_its_schema_says(engine: NativeEngine, schema: dict[str, Any]) -> None:
    ended = [check_json(ask(engine, JsonSchema(schema), seed), schema) for seed in range(5)]
    assert any(ended)
    assert {ask(engine, JsonSchema(schema), sampling=SamplingParams(temperature=0)).text for _ in range(2)}


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["a", "b", "나이", 'q"\\', "x y"])
    leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({"type": "null"}),
        st.just({"type": "boolean"}),
        st.tuples(st.integers(-99, 99), st.integers(0, 99)).map(
            lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[0] + pair[1]}
        ),
        st.integers(0, 6).map(lambda n: {"type": "string", "maxLength": n}),
        st.lists(st.one_of(st.text(max_size=4), st.integers(-9, 9), st.none()), min_size=1, max_size=3).map(
            lambda values: {"enum": values}
        ),
    )

    def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        lists = st.tuples(inner, st.integers(0, 3)).map(
            lambda pair: {"type": "array", "items": pair[0], "maxItems": pair[1]}
        )
        objects = st.tuples(st.dictionaries(names, inner, max_size=3), st.sets(names)).map(
            lambda pair: {
                "type": "object",
                "properties": pair[0],
                "required": sorted(pair[1] & pair[0].keys()),
                "additionalProperties": False,
            }
        )
        return st.one_of(lists, objects, st.lists(inner, min_size=1, max_size=2).map(lambda many: {"anyOf": many}))

    return st.recursive(leaves, deeper, max_leaves=5)


@given(schemas(), st.integers(0, 2**32))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_of_any_schema(engine: NativeEngine, schema: dict[str, Any], seed: int) -> None:
    check_json(ask(engine, JsonSchema(schema), seed), schema)


def test_any_json_and_no_endless_blanks(engine: NativeEngine) -> None:
    spaces = SamplingParams(temperature=1.0, seed=3, logit_bias={3 + ord(blank): 60.0 for blank in " \n\t"})
    schema = SCHEMAS["object"]
    for constraint in (JsonSchema({}), JsonSchema(schema)):
        text = ask(engine, constraint, sampling=spaces).text
        assert not re.search(r"[ \n\t]{2}", re.sub(r'"(\\.|[^"\\])*"?', "s", text))


def test_an_answer_that_the_limit_cuts_says_so(engine: NativeEngine) -> None:
    schema = {"type": "string", "minLength": 50, "maxLength": 60}
    completion = ask(engine, JsonSchema(schema), max_tokens=20)
    assert completion.done.finish_reason == "length"
    assert completion.done.usage.completion_tokens == 20
    assert completion.text.startswith('"')


# ---- regular expressions and grammars


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{3}-[0-9]{4}",
        "(red|green|blue)( [a-c]+){0,2}",
        "[가-힣]{3} [가-힣]{1,4}[.!?]",
        "^ab?c$",
        'a/b"c\\\\d\ne',
        " leading and trailing ",
        "\\d\\d:\\d\\d",
        "(?i)yes|no",
    ],
)
def test_the_whole_answer_matches(engine: NativeEngine, pattern: str) -> None:
    texts = {ask(engine, Regex(pattern), seed).text for seed in range(6)}
    assert all(re.fullmatch(pattern, text) for text in texts), texts
    assert all(ask(engine, Regex(pattern)).done.finish_reason == "stop" for _ in range(2))


def test_a_pattern_that_could_go_on_ends_where_the_model_ends_it(engine: NativeEngine) -> None:
    likes_to_end = SamplingParams(temperature=1.0, seed=1, logit_bias={2: 30.0})
    completion = ask(engine, Regex("[a-z]{4,}"), sampling=likes_to_end)
    assert re.fullmatch("[a-z]{4}", completion.text)
    assert completion.done.finish_reason == "stop"
    assert completion.done.usage.completion_tokens == 5


ARITHMETIC = r"""
start: sum
sum: term (("+" | "-") term){0,2}
term: NUMBER | "(" NUMBER "*" NUMBER ")"
NUMBER: /[1-9][0-9]?/
"""


def test_a_grammar(engine: NativeEngine) -> None:
    texts = [ask(engine, Grammar(ARITHMETIC), seed).text for seed in range(12)]
    term = r"([1-9]\d?|\([1-9]\d?\*[1-9]\d?\))"
    assert all(re.fullmatch(rf"{term}([+-]{term}){{0,2}}", text) for text in texts), texts
    assert len(set(texts)) > 6


# ---- beside the other parts of a request


def test_stop_strings_still_end_an_answer(engine: NativeEngine) -> None:
    completion = ask(engine, Regex("[ab]{10}c[ab]{10}"), stop=("c",))
    assert re.fullmatch("[ab]{10}", completion.text)
    assert (completion.done.finish_reason, completion.done.stop_text) == ("stop", "c")


def test_seeds_and_log_probabilities(engine: NativeEngine) -> None:
    constraint = JsonSchema(SCHEMAS["object"])
    plain, again, other = (ask(engine, constraint, seed) for seed in (5, 5, 6))
    reported = ask(engine, constraint, sampling=SamplingParams(temperature=2.0, top_p=0.98, seed=5, logprobs=3))
    assert plain.text == again.text == reported.text != other.text
    assert "".join(token.text for token in reported.logprobs) == reported.text or not reported.text.isascii()
    # The model's own distribution: its favourites need not be what the schema allows.
    assert any(token.token_id not in {alternative for alternative, _ in token.top} for token in reported.logprobs)


def test_the_last_token_of_the_form_ends_the_answer_without_one_more(engine: NativeEngine) -> None:
    completion = ask(engine, Regex("abc"))
    assert (completion.text, completion.done.finish_reason) == ("abc", "stop")
    assert completion.done.usage.completion_tokens == 3
    exact = ask(engine, Regex("abc"), max_tokens=3)
    assert (exact.text, exact.done.finish_reason) == ("abc", "stop")
    assert ask(engine, Regex("abc"), max_tokens=2).done.finish_reason == "length"
    assert ask(engine, Regex("")).text == ""


def test_constrained_and_free_answers_side_by_side(engine: NativeEngine) -> None:
    alone = [ask(engine, Regex("[a-f]{30}"), seed).text for seed in range(3)]
    streams = [
        engine.generate(
            Request(
                prompt="x",
                constraint=Regex("[a-f]{30}") if seed < 3 else None,
                max_tokens=40,
                sampling=SamplingParams(temperature=2.0, top_p=0.98, seed=seed),
            )
        )
        for seed in range(5)
    ]
    first = [next(stream) for stream in streams]
    texts = [head.text + collect(stream).text for head, stream in zip(first, streams, strict=True)]  # type: ignore[union-attr]
    assert texts[:3] == alone


# ---- what is refused


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: dict[str, tuple[Constraint, str]] = {
    "unknown type": (JsonSchema({"type": "objekt"}), "objekt"),
    "keyword": (JsonSchema({"type": "array", "uniqueItems": True}), "uniqueItems"),
    "keyword inside": (JsonSchema({"properties": {"a": {"not": {}}}}), "not"),
    "if": (JsonSchema({"if": {}, "then": {}}), "if"),
    "format": (JsonSchema({"type": "string", "format": "colour"}), "colour"),
    "reference": (JsonSchema({"$ref": "https://example.com/schema"}), "example.com"),
    "look-around": (JsonSchema({"type": "string", "pattern": "(?=a)b"}), "look-around"),
    "contradiction": (JsonSchema({"type": "integer", "minimum": 5, "maximum": 1}), "greater than"),
    "endless": (JsonSchema({"$ref": "#"}), "nothing satisfies it"),
    "no schema": (JsonSchema({"type": 3}), "type"),
    "options of llguidance": (JsonSchema({"x-guidance": {"lenient": True}, "not": {}}), "x-guidance"),
    "no JSON": (JsonSchema({"enum": [object()]}), "not JSON"),
    "no number": (JsonSchema({"const": float("nan")}), "not JSON"),
    "too deep": (JsonSchema(nested(MAX_DEPTH)), f"{MAX_DEPTH} levels"),
    "far too deep": (JsonSchema(nested(100_000)), "levels"),
    "too long": (JsonSchema({"description": "x" * MAX_CHARACTERS}), "characters"),
    "long pattern": (Regex("a" * (MAX_CHARACTERS + 1)), "characters"),
    "brackets": (Regex("(a"), "unclosed group"),
    "look-ahead": (Regex("a(?!b)"), "look-around"),
    "word boundary": (Regex(r"\bfoo\b"), "lookaround"),
    "deep pattern": (Regex("(" * 20_000 + "a" + ")" * 20_000), ""),
    "no grammar": (Grammar("this is no grammar"), ""),
    "no start": (Grammar('begin: "a"'), "start"),
    "unknown rule": (Grammar("start: missing"), "missing"),
    "control token": (Grammar('start: "a" </s>'), "control tokens"),
    "control token by number": (Grammar('start: /a/ "<ok>" <[2]> // <ok>'), "control tokens"),
}


@pytest.mark.parametrize(("constraint", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_enforced_is_refused_in_one_sentence(
    engine: NativeEngine, constraint: Constraint, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(engine, constraint)
    assert caught.value.param == "constraint"
    assert reason in caught.value.message
    assert len(caught.value.message) < 400 and "\n" not in caught.value.message
    assert ask(engine, Regex("ok")).text == "ok"


def test_a_circle_is_no_schema(engine: NativeEngine) -> None:
    circle: dict[str, Any] = {"type": "array"}
    circle["items"] = circle
    with pytest.raises(InvalidRequest):
        ask(engine, JsonSchema(circle))


@pytest.mark.parametrize(
    "constraint",
    [
        Regex("(((a{1,100}){1,100}){1,100}){1,100}"),
        Regex(".*a.{30}b"),
        Grammar('start: "a" start'),
        Grammar('start: ((("a" "b"){1,1000}){1,1000}){1,1000}'),
        JsonSchema({"type": "string", "pattern": "(x+x+)+y"}),
        JsonSchema({"enum": [f"word {n}" for n in range(3000)]}),
    ],
    ids=lambda constraint: str(constraint)[:30],
)
def test_greedy_forms_cost_no_more_than_their_limits(engine: NativeEngine, constraint: Constraint) -> None:
    """Refused, ended with an error, or answered: never stuck."""
    try:
        ask(engine, constraint, max_tokens=60)
    except (InvalidRequest, EngineError) as error:
        assert error.message


# ---- what a form forces


def one_by_one(engine: NativeEngine, request: Request) -> Completion:
    """The answer, with one token in each step and nothing ahead."""
    sequence, work = engine._answering(request, Stopwatch())

    def compute_all(scheduler: Scheduler) -> None:
        work.begins(0)
        while not work.is_done:
            n = sequence.n_left
            assert scheduler.cache.grow(sequence, n)
            compute(scheduler.decoder, [Share(sequence, n, [])])
            sequence.n_computed += n
            sequence.tokens.append(work.row(scheduler.decoder, 0))
            sequence.first_row += 1
        work.ends(sequence, scheduler.decoder)
        work.hand_over()
        scheduler.cache.pool.release(sequence.forget())

    engine._worker.ask(compute_all)
    return collect(iter(work.outbox.take()))


FORCED = (
    Regex("(sunrise|sunset) over the (river|riverside), said she\\. [0-9]{2}"),
    JsonSchema({"enum": [{"first name": "Ada", "language": "Korean"}, {"first name": "Ada", "language": "English"}]}),
    JsonSchema({"type": "object", "properties": {"a rather long name": WORD}, "required": ["a rather long name"]}),
)


@pytest.mark.parametrize("constraint", FORCED, ids=lambda constraint: str(constraint)[:30])
@pytest.mark.parametrize("speculation", ["off", "ngram"])
def test_what_a_form_forces_is_drawn_all_the_same(tiny_gguf: Path, constraint: Constraint, speculation: str) -> None:
    engine = load(as_files(tiny_gguf), as_plan(context_tokens=400, speculation=speculation))
    assert isinstance(engine, NativeEngine)
    with closing(engine):
        for seed in range(4):
            sampling = SamplingParams(temperature=2.0, seed=seed, repeat_penalty=1.1, repeat_last_n=-1, logprobs=2)
            for max_tokens in (None, 1, 20):
                request = Request(prompt="x", constraint=constraint, sampling=sampling, max_tokens=max_tokens)
                found, expected = collect(engine.generate(request)), one_by_one(engine, request)
                assert (found.text, found.logprobs) == (expected.text, expected.logprobs)
                assert found.done.finish_reason == expected.done.finish_reason
                assert found.done.usage.completion_tokens == expected.done.usage.completion_tokens


def test_what_a_form_forces_takes_few_steps(engine: NativeEngine) -> None:
    """All rows that were ever computed at once, by the times that are kept of them."""
    text = "the only thing that may be said"
    assert ask(engine, Regex(text)).text == text
    assert max(engine._worker.ask(lambda scheduler: scheduler.pace._known)) == 1 + MOST_DRAFTS


# ---- the compiler itself


def test_compiled_forms_are_kept_within_a_bound(tiny_gguf: Path) -> None:
    constraints = Constraints(tokenizer_from_gguf(read_gguf(tiny_gguf)))
    for n in range(2 * MAX_COMPILED):
        constraints.start(Regex(f"a{n}"))
    assert len(constraints._compiled) == MAX_COMPILED
    first, second = constraints.start(Regex("ab")), constraints.start(Regex("ab"))
    first.accept(3 + ord("a"))
    assert first.bitmask().tolist() != second.bitmask().tolist()  # one state each
    with pytest.raises(EngineError, match="cannot be followed"):
        first.accept(3 + ord("x"))
    assert not first.allows(3 + ord("b"))
    with pytest.raises(EngineError, match="cannot be followed"):
        first.bitmask()
    second.accept(3 + ord("a"))
    assert second.allows(3 + ord("b"))


def masked_tokens(mask: TokenMask, n: int) -> set[int]:
    bits = mask.bitmask()
    return {token for token in range(n) if bits[token // 32] >> (token % 32) & 1}


@pytest.mark.parametrize("after", [None, "</think>"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize(
    "constraint",
    [
        JsonSchema({"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}),
        JsonSchema({"enum": ["red", 'g"r', 3, [1]]}),
        Regex("[가-힣]{1,2}(yes|no|y+)?"),
        Regex("(?s:.*)"),
        Grammar('start: "a" b | start start\nb: /[0-9 ]+/'),
    ],
    ids=lambda constraint: str(constraint)[:30],
)
def test_a_token_is_allowed_when_the_mask_says_so(kind: str, constraint: Constraint, after: str | None) -> None:
    """Along random answers, and asking changes neither masks nor answers."""
    tokenizer, rng = small_tokenizer(kind), random.Random(7)
    constraints, n = Constraints(tokenizer), tokenizer.vocab_size
    for _ in range(4):
        asked, unasked = constraints.start(constraint, after=after), constraints.start(constraint, after=after)
        for _ in range(12):
            expected = masked_tokens(unasked, n)
            allowed = {token for token in range(n + 40) if asked.allows(token)}
            assert (
                allowed - {n} == expected == masked_tokens(asked, n)
            )  # n ends answers where the model has no such token
            going_on = sorted(expected - tokenizer.end_ids)
            if not going_on:
                break
            token = rng.choice(going_on)
            asked.accept(token)
            unasked.accept(token)
            assert asked.is_done == unasked.is_done
            if asked.is_done:
                break


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_control_tokens_are_never_part_of_a_form(kind: str) -> None:
    tokenizer = small_tokenizer(kind)
    mask = Constraints(tokenizer).start(Regex("(?s:.*)"))
    bits = mask.bitmask()
    allowed = {token for token in range(tokenizer.vocab_size) if bits[token // 32] >> (token % 32) & 1}
    controls = {token for token in range(tokenizer.vocab_size) if tokenizer.is_control(token)}
    assert allowed & controls == tokenizer.end_ids or not tokenizer.end_ids
    assert len(allowed) > 150


def test_a_form_may_begin_behind_the_reasoning(tiny_gguf: Path) -> None:
    constraints = Constraints(tokenizer_from_gguf(read_gguf(tiny_gguf)))
    for text, is_done in (("hm </thin {} </think>\n\n[1]", True), ("</think>[2]", True), ("a</think> [", False)):
        mask = constraints.start(
            JsonSchema({"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 1}), after="</think>"
        )
        for byte in text.encode():
            assert not mask.is_done
            mask.accept(3 + byte)
        assert mask.is_done == is_done
