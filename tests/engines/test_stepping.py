"""What stands around the steps of another library, with a library that only counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from madang.core import EngineInfo, Request, SamplingParams, collect, streaming
from madang.core.errors import EngineError
from madang.engines.stepping import Logits, SteppingEngine
from madang.formats.tokenizers import Tokenizer, tokenizer_from_json
from tests.parity.checkpoints import BYTE_TOKENS, byte_tokenizer

GREEDY = SamplingParams(temperature=0)
FIRST_BYTE = 3


class Counting:
    """Says how many tokens it has read, as a letter. ``steps`` are the lengths of what it was given."""

    def __init__(self, *, can_shorten: bool = True, fails_at: int | None = None) -> None:
        self.steps: list[int] = []
        self.can_shorten = can_shorten
        self.fails_at = fails_at

    def new_cache(self) -> list[int]:
        return []

    def step(self, tokens: Sequence[int], cache: list[int]) -> Logits:
        return self.all_logits(tokens, cache)[-1]

    def all_logits(self, tokens: Sequence[int], cache: list[int]) -> Logits:
        rows = np.zeros((len(tokens), BYTE_TOKENS + 5), np.float32)  # five more than there are tokens
        rows[:, BYTE_TOKENS:] = 100
        for row, token in zip(rows, tokens, strict=True):
            cache.append(token)
            row[FIRST_BYTE + ord("a") + len(cache) % 26] = 10
        self.steps.append(len(tokens))
        if len(self.steps) - 1 == self.fails_at:
            raise EngineError("it broke")
        return rows

    def shorten(self, cache: list[int], n_tokens: int) -> bool:
        if self.can_shorten:
            del cache[-n_tokens:]
        return self.can_shorten

    def close(self) -> None:
        self.steps.clear()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_text(byte_tokenizer(BYTE_TOKENS))
    return tokenizer_from_json(Path(file))


def engine_of(model: Counting, tokenizer: Tokenizer) -> SteppingEngine:
    return SteppingEngine(EngineInfo("counting", "m", 2000), model, tokenizer, SamplingParams())


def ask(text: str, max_tokens: int = 3) -> Request:
    return Request(prompt=text, sampling=GREEDY, max_tokens=max_tokens)


def test_rows_of_no_token_are_never_drawn(tokenizer: Tokenizer) -> None:
    engine = engine_of(Counting(), tokenizer)
    assert collect(engine.generate(ask("abc"))).text == "efg"  # after 4 tokens, <s> among them
    assert next(engine.logits([5, 6])).shape == (2, BYTE_TOKENS)


def test_a_long_prompt_is_read_in_parts(tokenizer: Tokenizer) -> None:
    model = Counting()
    collect(engine_of(model, tokenizer).generate(ask("x" * 1200, max_tokens=1)))
    assert len(model.steps) == 3
    assert sum(model.steps) == len(tokenizer.encode("x" * 1200))


@pytest.mark.parametrize(("can_shorten", "n_cached"), [(True, 4), (False, 0)])
def test_another_end_takes_up_the_beginning_where_the_library_can_forget(
    tokenizer: Tokenizer, can_shorten: bool, n_cached: int
) -> None:
    engine = engine_of(Counting(can_shorten=can_shorten), tokenizer)
    fresh = collect(engine_of(Counting(), tokenizer).generate(ask("abcXYZ"))).text
    collect(engine.generate(ask("abc")))
    answer = collect(engine.generate(ask("abcXYZ")))
    assert (answer.text, answer.done.usage.cached_tokens) == (fresh, n_cached)


def test_a_conversation_that_only_grows_needs_no_forgetting(tokenizer: Tokenizer) -> None:
    engine = engine_of(Counting(can_shorten=False), tokenizer)
    first = collect(engine.generate(ask("abc")))
    again = collect(engine.generate(ask("abc" + first.text + " and more")))
    assert again.done.usage.cached_tokens == len(tokenizer.encode("abc" + first.text)) - 1  # its last was not read


def test_what_a_failed_step_left_behind_is_not_used_again(tokenizer: Tokenizer) -> None:
    model = Counting(fails_at=1)
    engine = engine_of(model, tokenizer)
    with pytest.raises(EngineError, match="broke"):
        collect(engine.generate(ask("abc")))
    answer = collect(engine.generate(ask("abc")))
    assert (answer.text, answer.done.usage.cached_tokens) == ("efg", 0)


def test_leaving_ends_the_computation_before_the_next_step(tokenizer: Tokenizer) -> None:
    model = Counting()
    with streaming(engine_of(model, tokenizer), ask("abc", max_tokens=100)) as events:
        next(events)
        next(events)
    assert model.steps == [4, 1]
