"""Constraints while an answer is generated: which tokens may come next, by llguidance's parsers.

    core.constraint --compile, cached--> parser --one copy per answer--> TokenMask: bitmask, accept, bitmask, accept …

What a constraint promises. An answer that ends with the finish reason "stop" has the form that was asked for, but for
what a stop string cut away; one that runs into ``max_tokens`` is its beginning, and ends with "length". JSON is written
with at most one space where JSON allows any, so that no model can go on for ever with blanks; how long texts and lists
may become is for the schema to say (``maxLength``, ``maxItems``). Object members come in the order of the schema's
``properties``. Keywords of JSON Schema that cannot be enforced are refused, and so are control tokens in a grammar.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from madang.core.constraint import Constraint, Grammar, JsonSchema, Regex
from madang.core.errors import EngineError, InvalidRequest
from madang.formats.tokenizers import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_CHARACTERS: Final = 65_536  # of a pattern, a grammar, or a schema as JSON
MAX_DEPTH: Final = 64  # objects and lists within each other in a schema
MAX_COMPILED: Final = 32  # constraints whose parsers are kept for the next request
_MAX_REMEMBERED: Final = 2048  # texts of up to _LONGEST_REMEMBERED characters whose tokens are kept
_LONGEST_REMEMBERED: Final = 64
_MAX_REASON: Final = 240
_HALF_PAIR: Final = "it contains half of a surrogate pair, which is no character"
# What llguidance may spend. The first two bound compiling to well below a second, the others a step to a few
# milliseconds; real schemas stay a hundred times below them.
_LIMITS: Final[Mapping[str, Any]] = {
    "initial_lexer_fuel": 1_000_000,
    "max_grammar_size": 200_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "max_lexer_states": 50_000,
}
_JSON_OPTIONS: Final = {"whitespace_pattern": " ", "lenient": False, "coerce_one_of": False}
_KINDS: Final = {JsonSchema: "JSON schema", Regex: "regular expression", Grammar: "grammar"}
# Parts of the vocabulary that llguidance allows or refuses as a whole, where it can tell, instead of token by token:
# blanks, words, and texts in JSON up to so many characters, as a text near its ``maxLength`` takes short ones only.
# Figures: docs/log.md
_IN_TEXT: Final = r'[^"\\\x00-\x1F\x7F]'
_TEXT_LENGTHS: Final = (10, 12, 14, 16, 20, 30)
_SLICES: Final = (
    r"[\x20\x0A\x0D\x09]+",
    *(f"{_IN_TEXT}{{1,{length}}}" for length in _TEXT_LENGTHS),
    f"{_IN_TEXT}+",
    *("[a-z]+", " [a-z]+", "[A-Z][a-z]*", " [A-Z][a-z]*"),
)
# The parts of a grammar that may contain any character: strings, regular expressions, comments.
_LITERALS: Final = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/')

Bits = npt.NDArray[np.uint32]


class TokenMask:
    """The state of one answer within its constraint, for tokens below ``n_tokens``."""

    __slots__ = ("_bits", "_forced", "_matcher", "_n_tokens", "_pointer")

    def __init__(self, matcher: LLMatcher, n_tokens: int) -> None:
        self._matcher = matcher
        self._n_tokens = n_tokens
        self._bits: Bits = np.zeros(-(-n_tokens // 32), np.uint32)
        self._pointer = self._bits.ctypes.data
        self._forced: list[int] | None = None  # as long as nobody asked

    def bitmask(self) -> Bits:
        """Bit ``t % 32`` of word ``t // 32`` is set when token t may come next; valid until the next call.

        The tokens that end an answer are among them where the answer may end. Raises EngineError when the constraint
        became too complex to follow.
        """
        self._matcher.unsafe_compute_mask_ptr(self._pointer, self._bits.nbytes)
        self._check()
        return self._bits

    def allows(self, token: int) -> bool:
        """Whether its bit in the mask is set, for a fraction of what the mask costs."""
        forced = self.forced()  # then the mask has one bit, also where other tokens spell the same bytes
        if forced:
            return token == forced[0]
        return token < self._n_tokens and self._matcher.validate_tokens([token]) == 1

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, one after the other, because there is one way to go on. Often none."""
        if self._forced is None:
            self._forced = self._matcher.compute_ff_tokens()
        return self._forced

    def accept(self, token: int) -> None:
        """Take a token that was drawn under the mask. Raises EngineError for one that the mask did not allow."""
        self._forced = None
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_done(self) -> bool:
        """Whether nothing can follow."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineError(f"The constraint cannot be followed any further: {_reason(self._matcher.get_error())}.")


class Constraints:
    """Compiles constraints for one tokenizer and remembers the last MAX_COMPILED. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._words: LLTokenizer | None = None  # made for the first constraint
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, constraint: Constraint, *, after: str | None = None) -> TokenMask:
        """A fresh state of ``constraint``.

        after   text that ends a part of the answer which is free, as "</think>" does; the constraint begins behind it

        Raises InvalidRequest, for the parameter ``constraint``, when it is too large, does not compile, or nothing
        satisfies it.
        """
        return self._start(_KINDS[type(constraint)], _grammar(constraint), after)

    def start_own(self, lark: str, *, after: str | None = None) -> TokenMask:
        """A fresh state of a grammar that madang itself wrote, which may name control tokens by their number."""
        return self._start("form of a tool call", {"lark_grammar": lark}, after)

    def _start(self, kind: str, grammar: dict[str, Any], after: str | None) -> TokenMask:
        grammars = [grammar] if after is None else [_free_start(self._tokenizer, after), {**grammar, "name": "answer"}]
        text = json.dumps({"grammars": grammars})
        with self._lock:
            matcher = self._compiled.get(text)
            if matcher is None:
                matcher = self._compiled[text] = self._compile(kind, text)
                if len(self._compiled) > MAX_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(text)
            assert self._words is not None  # made to compile
            return TokenMask(matcher.deep_copy(), self._words.vocab_size)

    def _compile(self, kind: str, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        if self._words is None:
            self._words = _describe(self._tokenizer)
        limits = LLParserLimits(**_LIMITS, verbose_errors=False)
        matcher = LLMatcher(self._words, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # some contradictions show here only
        if matcher.is_error():
            raise _refusal(kind, _reason(matcher.get_error()))
        return matcher


def _refusal(kind: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"The {kind} cannot hold an answer to its form: {reason}.", param="constraint")


def _reason(message: str) -> str:
    """The one line of llguidance's message that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no reason given"]
    line = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    if line.startswith("NoExtension"):
        line = "nothing satisfies it"
    return line.rstrip(".")[:_MAX_REASON]


# ---- grammars, in llguidance's JSON form


def _grammar(constraint: Constraint) -> dict[str, Any]:
    """Raises InvalidRequest for what is too large, or no JSON, or names control tokens."""
    kind = _KINDS[type(constraint)]
    match constraint:
        case JsonSchema():
            return {"json_schema": {**json_copy(constraint.schema, kind), "x-guidance": _JSON_OPTIONS}}
        case Regex():
            from llguidance import regex_to_lark

            _check_text(kind, constraint.pattern)
            return {"lark_grammar": f"start: /{regex_to_lark(constraint.pattern, '')}/"}
        case Grammar():
            _check_text(kind, constraint.text)
            if "<" in _LITERALS.sub("", constraint.text):
                raise _refusal(kind, "control tokens, written <name> or <[number]>, have no place in it")
            return {"lark_grammar": constraint.text}


def _check_text(kind: str, text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise _refusal(kind, f"it has {len(text)} characters, and at most {MAX_CHARACTERS} are allowed")
    if _has_half_pair(text):
        raise _refusal(kind, _HALF_PAIR)


def _has_half_pair(text: str) -> bool:
    """Half of a surrogate pair, which JSON can spell and no encoding can write."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def json_copy(schema: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A copy of a JSON schema made of JSON's types. Raises InvalidRequest when it is too large, deep, or no JSON."""
    chunks: list[str] = []
    n_characters = depth = 0
    try:
        for chunk in json.JSONEncoder(allow_nan=False, ensure_ascii=False).iterencode(dict(schema)):
            chunks.append(chunk)
            n_characters += len(chunk)
            depth += (chunk[0] in "[{") - (chunk[-1] in "]}")
            if n_characters > MAX_CHARACTERS:
                raise _refusal(kind, f"it has more than {MAX_CHARACTERS} characters")
            if depth > MAX_DEPTH:
                raise _refusal(kind, f"it is more than {MAX_DEPTH} levels deep")
        text = "".join(chunks)
        copy: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(kind, f"it is not JSON ({str(error)[:80]})") from None
    if _has_half_pair(text):
        raise _refusal(kind, _HALF_PAIR)
    if "x-guidance" in copy:
        raise _refusal(kind, "'x-guidance' is not a keyword of JSON Schema")
    return copy


def _free_start(tokenizer: Tokenizer, end: str) -> dict[str, Any]:
    """Any text up to ``end``, which may be a control token, at most two blanks, then the grammar named "answer"."""
    control = tokenizer.control_ids(end).get(end)
    rules = [
        "start: free GAP @answer",
        f"free[suffix={json.dumps(end)}]: TEXT" if control is None else f"free: TEXT <[{control}]>",
        "TEXT: /(?s:.*)/",
        "GAP: /[ \\n]{0,2}/",
    ]
    return {"name": "outer", "lark_grammar": "\n".join(rules)}


# ---- the vocabulary, as llguidance wants to see it


class _Words:
    """llguidance's protocol for tokenizers: attributes with fixed names, and a call that never raises."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = [token for token in range(tokenizer.vocab_size) if tokenizer.is_control(token)]
        ends = tokenizer.end_ids or ({tokenizer.eos_id} if tokenizer.eos_id is not None else set())
        if not ends:  # a token beyond all that can be drawn
            ends = {len(self.tokens)}
            self.tokens.append(b"")
            self.special_token_ids.append(len(self.tokens) - 1)
        self.end_ids = sorted(ends)
        self.eos_token_id = self.end_ids[0]
        self._tokenizer = tokenizer
        # Many tokenizers put a space before a text. A byte that never begins a piece of text keeps it away.
        self._anchor = "\x02" if tokenizer.leading_space else ""
        self._anchor_ids = self._encode(self._anchor)
        self._remembered_ids = lru_cache(_MAX_REMEMBERED)(
            self._ids
        )  # what a form forces to come is asked again and again

    def __call__(self, text: str) -> list[int]:
        """Ids of a text in the middle of an answer, whose bytes are those of the text."""
        return self._remembered_ids(text) if len(text) <= _LONGEST_REMEMBERED else self._ids(text)

    def _ids(self, text: str) -> list[int]:
        ids = self._encode(self._anchor + text)
        if ids[: len(self._anchor_ids)] == self._anchor_ids:
            ids = ids[len(self._anchor_ids) :]
        data = text.encode()
        if b"".join(self.tokens[token] for token in ids) == data:
            return ids
        return list(self._longest_tokens(data))  # the tokenizer normalizes, or has no token for a blank

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)

    def _longest_tokens(self, data: bytes) -> Iterator[int]:
        at = 0
        while at < len(data):
            lengths = range(min(len(data) - at, self._most_bytes), 0, -1)
            length = next((n for n in lengths if data[at : at + n] in self._by_bytes), 0)
            if length:
                yield self._by_bytes[data[at : at + length]]
            at += length or 1

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        controls = set(self.special_token_ids)
        return {data: token for token, data in enumerate(self.tokens) if data and token not in controls}

    @cached_property
    def _most_bytes(self) -> int:
        return max(map(len, self._by_bytes), default=0)


def _describe(tokenizer: Tokenizer) -> LLTokenizer:
    """Takes about two tenths of a second for 50,000 tokens, so it waits for the first constraint."""
    from llguidance import LLTokenizer

    words = _Words(tokenizer)
    return LLTokenizer(words, eos_token=words.end_ids, slices=list(_SLICES))  # type: ignore[arg-type]
