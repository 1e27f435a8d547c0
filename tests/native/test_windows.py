"""Layers with a window keep only that in the cache, and no bit changes, whatever lies in the pages that went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from madang import _core
from madang.core import Request, SamplingParams, collect
from madang.formats.families import describe_gguf
from madang.formats.gguf import read_gguf
from madang.hardware import PageGroups, kv_cache_bytes, page_groups
from madang.hardware.kv_cache import KV_PAGE_TOKENS
from madang.native import NativeEngine, load
from madang.native.page_table import PageTable
from madang.native.pages import PAGE_TOKENS, PagePool, pages_for
from madang.native.scheduler import Scheduler
from madang.native.sequence import CachedSequence
from madang.native.work import PageContents
from tests.native.bare import BareModel, bare_decoder
from tests.native.conftest import as_files, as_plan
from tests.native.test_invariance import answers, bits
from tests.parity.running import read

WINDOW = 24
MIXED = PageGroups((1, 0, 2, 1), 1, 2, 70), BareModel(windows=(70, 0, 20, 70), n_heads=6, n_kv_heads=2, head_dim=24)
WINDOWS_ONLY = PageGroups((0, 0), 0, 1, 300), BareModel(windows=(300, 300), n_heads=3, head_dim=40)
N_TOKENS = 700  # several windows, and several of the partitions of 256 that attention counts from position 0


def grouped(model: BareModel, groups: PageGroups, **options: Any) -> _core.Decoder:
    return bare_decoder(replace(model, edits={"page_groups": list(groups.layers)}), **options)


def read_and_forget(
    decoder: _core.Decoder, groups: PageGroups, tokens: Sequence[int], sizes: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Logits; after each step, what is beyond the window is overwritten with NaN."""
    pool, table = PagePool(decoder, 10**9), PageTable(groups)
    poison = np.full(decoder.page_bytes, 0xFF, np.uint8)
    rows, begin, step = [], 0, 0
    while begin < len(tokens):
        n = min(sizes[step % len(sizes)], len(tokens) - begin)
        n_columns = max(pages_for(begin + n) - table.n_columns, 0)
        table.append(pool.allocate(n_columns * groups.n_groups) or [])
        piece, positions = np.array(tokens[begin : begin + n], np.int32), np.arange(begin, begin + n, dtype=np.int32)
        decoder.step(piece, positions, np.zeros(n, np.int32), table.rows, np.arange(n, dtype=np.int32))
        rows += [decoder.logits(row) for row in range(n)]
        begin, step = begin + n, step + 1
        released = table.leave_behind(begin)
        for page in released:
            decoder.write_page(page, poison)
        pool.release(released)
    assert pool.n_used == table.n_held <= groups.most_pages(len(tokens), max(sizes))
    assert pool.n_used < groups.n_groups * pages_for(len(tokens))
    return np.stack(rows)


@pytest.mark.parametrize(("groups", "model"), [MIXED, WINDOWS_ONLY], ids=["mixed", "windows-only"])
@pytest.mark.parametrize("kv_type", ["f16", "int8"])
@pytest.mark.parametrize("isa", _core.available_isas())
def test_what_is_beyond_the_window_leaves_no_trace(
    groups: PageGroups, model: BareModel, kv_type: str, isa: str
) -> None:
    tokens = np.random.default_rng(1).integers(0, model.vocab_size, N_TOKENS).tolist()
    whole = read(bare_decoder(model, kv_type=kv_type, isa=isa), tokens, (300, 300))
    assert np.isfinite(whole).all()
    for sizes in ((64,), (1, 2, 40, 1, 1, 7)):
        found = read_and_forget(grouped(model, groups, kv_type=kv_type, isa=isa), groups, tokens, sizes)
        assert np.array_equal(found, whole)


def test_a_page_has_room_for_the_largest_group() -> None:
    groups, model = MIXED
    decoder, plain = grouped(model, groups), bare_decoder(model)
    assert decoder.page_bytes * 2 == plain.page_bytes
    decoder.reserve_pages(5)
    n = np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="a page table for each group"):
        decoder.step(n, n, n, np.zeros((2, 1), np.int32), n)
    with pytest.raises(ValueError, match="a page does not exist"):
        decoder.step(n, n, n, np.array([[0], [1], [10**6]], np.int32), n)
    for wrong in ([0], [0, 0, 0, 4], [0, 0, 0, -1]):
        with pytest.raises(ValueError, match="contradict"):
            _core.Decoder(replace(model, edits={"page_groups": wrong}).shape(), 1, "")


# ---- engines


@pytest.fixture(scope="module", params=["gemma3", "mistral"])
def windowed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six layers of seven with a window, or all."""
    from tests.parity.families import FAMILIES, build

    family = next(family for family in FAMILIES if family.name == request.param)
    path = build(family, tmp_path_factory.mktemp(request.param)).gguf
    assert path is not None
    return path


class Opener:
    """Opens engines of a model, with memory for so many of its columns."""

    def __init__(self, path: Path) -> None:
        self.spec = describe_gguf(read_gguf(path)).spec
        self.groups = page_groups(self.spec)
        self.opened: list[NativeEngine] = []
        self._path = path

    def __call__(self, *, n_columns: int = 400, **options: Any) -> NativeEngine:
        plan = as_plan(**{"context_tokens": 512, **options})
        column_bytes = kv_cache_bytes(self.spec, KV_PAGE_TOKENS)
        plan = replace(plan, kv_limit_bytes=replace(plan.kv_limit_bytes, value=n_columns * column_bytes))
        self.opened.append(load(as_files(self._path), plan))
        return self.opened[-1]


@pytest.fixture
def opener(windowed: Path) -> Iterator[Opener]:
    found = Opener(windowed)
    yield found
    for engine in found.opened:
        engine.close()


LONG = "once-upon-a-time-there-was-a-long-text-of-several-windows " * 4
REQUESTS = [
    Request(prompt=text, max_tokens=40, sampling=sampling)
    for text in (LONG, "hi", "la-la-la-la-la-la-la-la-la-la-la-la-la-la-la-la-la-la-la")
    for sampling in (
        SamplingParams(temperature=0, logprobs=1),
        SamplingParams(temperature=0.9, top_k=0, seed=7, logprobs=1),
    )
]


@pytest.fixture(scope="module")
def alone(windowed: Path) -> list[tuple[object, ...]]:
    """Each request on an engine that has done nothing else."""
    found = []
    for request in REQUESTS:
        with closing(load(as_files(windowed), as_plan(context_tokens=512, n_pages=10_000))) as engine:
            found.append(bits(collect(engine.generate(request))))
    return found


@pytest.mark.parametrize("speculation", ["off", "ngram"])
@pytest.mark.parametrize("chunk", [5, 16, 256])
def test_among_others_in_any_chunks(
    opener: Opener, alone: list[tuple[object, ...]], chunk: int, speculation: str
) -> None:
    engine = opener(chunk=chunk, speculation=speculation, concurrency=16)
    crowd = [Request(prompt=LONG[: 19 * n], max_tokens=3 * n) for n in range(8)]
    found = answers(engine, [*crowd, *REQUESTS])
    assert [bits(completion) for completion in found[len(crowd) :]] == alone


def test_with_a_draft_model_that_has_windows(opener: Opener, windowed: Path, alone: list[tuple[object, ...]]) -> None:
    engine = opener(speculation=f"draft:{windowed}")
    found = [collect(engine.generate(request)) for request in REQUESTS]
    assert [bits(completion) for completion in found] == alone
    assert sum(completion.done.timings.accepted_tokens for completion in found) > 0


@pytest.mark.parametrize("length", [1, 16, 17, 40, 100, 160, 200])
def test_after_prefixes_of_it_were_computed(opener: Opener, alone: list[tuple[object, ...]], length: int) -> None:
    engine = opener()
    for request, expected in zip(REQUESTS, alone, strict=True):
        assert request.prompt is not None
        collect(engine.generate(Request(prompt=request.prompt[:length] + "!", max_tokens=60)))
        completion = collect(engine.generate(request))
        assert completion.done.usage.cached_tokens >= min(length, len(request.prompt)) - 1
        assert bits(completion) == expected


@pytest.mark.parametrize("n_columns", [20, 30, 60])
def test_when_memory_is_short(opener: Opener, alone: list[tuple[object, ...]], n_columns: int) -> None:
    engine = opener(n_columns=n_columns, context_tokens=300, speculation="ngram", chunk=32)
    crowd = [Request(prompt=LONG[: 23 * n], max_tokens=30, priority="background") for n in range(9)]
    for _ in range(2):
        found = answers(engine, [*crowd, *REQUESTS])
        assert [bits(completion) for completion in found[len(crowd) :]] == alone
    usage = engine.cache_usage()
    assert usage.held_pages == 0
    assert usage.evicted_pages > 0
    engine.clear_cache()
    assert engine.cache_usage().idle_pages == 0


def test_the_next_turn_goes_on_from_the_last(opener: Opener) -> None:
    """Also when others have taken the place of all that is beyond the window."""
    others = [Request(prompt=f"{n}" * 90, max_tokens=0) for n in range(4)]
    engine = opener(n_columns=44, chunk=32)
    prompt, n_known = LONG, 0
    for _ in range(3):
        before = collect(engine.generate(Request(prompt=prompt, max_tokens=30)))
        for other in others:
            collect(engine.generate(other))
        assert before.done.usage.cached_tokens >= n_known
        n_known = before.done.usage.prompt_tokens - 1
        prompt += " and-then"
        assert engine.cache_usage().held_pages == 0


@pytest.mark.parametrize("step_tokens", [1, 7, 32])
def test_pages_in_use_are_what_the_plan_counts(opener: Opener, step_tokens: int) -> None:
    tokens = [3 + byte for byte in LONG.encode()]

    def most_held(scheduler: Scheduler) -> int:
        scheduler.add(CachedSequence(tokens, len(tokens), PageContents(), "background"))
        most = 0
        while scheduler.is_busy:
            shares = scheduler.schedule()
            most = max(most, scheduler.usage.held_pages)
            scheduler._run(shares)
        return most

    engine = opener(chunk=step_tokens)
    page_bytes, groups = engine.cache_usage().page_bytes, opener.groups
    counted = kv_cache_bytes(opener.spec, len(tokens), step_tokens=step_tokens)
    assert counted == groups.most_pages(len(tokens), step_tokens) * page_bytes
    assert counted < groups.n_groups * pages_for(len(tokens)) * page_bytes
    held_bytes = engine._worker.ask(most_held) * page_bytes
    assert counted - 2 * groups.n_window * page_bytes <= held_bytes <= counted  # steps may begin and end anywhere


@pytest.mark.parametrize("n_letters", [1, 15, 16, 40, 130, len(LONG) - 1])
def test_a_saved_prefix_has_what_the_next_token_sees(opener: Opener, tmp_path: Path, n_letters: int) -> None:
    engine, path = opener(), tmp_path / "prefix"
    n_saved = engine.save_prefix(Request(prompt=LONG[:n_letters]), path)
    first, second = opener(), opener()
    assert first.load_prefix(path) == n_saved
    request = Request(prompt=LONG, max_tokens=20, sampling=SamplingParams(temperature=0, logprobs=1))
    completion, fresh = collect(first.generate(request)), collect(second.generate(request))
    assert completion.done.usage.cached_tokens == n_saved
    assert bits(completion) == bits(fresh)
    content = kv_cache_bytes(opener.spec, n_saved)
    assert path.stat().st_size < content + 5000
    assert PAGE_TOKENS == KV_PAGE_TOKENS


def test_a_context_that_only_fits_because_of_windows(opener: Opener) -> None:
    n_bytes = kv_cache_bytes(opener.spec, 480, step_tokens=16)
    n_columns = -(-n_bytes // kv_cache_bytes(opener.spec, KV_PAGE_TOKENS))
    assert n_columns < pages_for(480)
    engine = opener(n_columns=n_columns, chunk=16, context_tokens=480)
    completion = collect(engine.generate(Request(prompt=(LONG * 2)[:440], max_tokens=8)))
    assert completion.done.usage.completion_tokens == 8
