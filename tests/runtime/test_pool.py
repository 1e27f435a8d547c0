"""The pool: one load per model, nothing given up that is in use, never more bytes than there are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from madang.core import EngineInfo, Loaded, Request, collect
from madang.core.errors import (
    EngineError,
    InvalidReference,
    MadangError,
    ModelError,
    ModelNotFound,
    NotEnoughMemory,
    UnknownOption,
)
from madang.core.settings import Settings, load_settings
from madang.runtime.pool import Pool
from madang.runtime.prospect import Prospect, foresee, identify
from tests.conftest import STARTER

WAIT_S = 20.0


class Model:
    """Something loaded that takes room; it is lost when ``is_alive`` says so."""

    def __init__(self, name: str, shelf: Shelf) -> None:
        self.info = EngineInfo(engine="fake", model=name, context_tokens=8)
        self.is_alive = True
        self.closed = threading.Event()
        self._shelf = shelf

    def close(self) -> None:
        assert not self.closed.is_set(), "closed twice"
        self._shelf.take_off(self)
        self.closed.set()


class Shelf:
    """Where models come from, with what they weigh; it remembers all that are open."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.open: list[Model] = []
        self.loads: list[str] = []
        self.most_bytes = 0
        self.trouble: set[str] = set()
        self.gate: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def load(self, reference: str, settings: Settings) -> Loaded:
        with self._lock:
            self.loads.append(reference)
        self.gate()
        if reference in self.trouble:
            raise ModelError(f"{reference} is broken.")
        model = Model(reference, self)
        with self._lock:
            self.open.append(model)
            self.most_bytes = max(self.most_bytes, self.bytes)
        return model

    def take_off(self, model: Model) -> None:
        with self._lock:
            self.open.remove(model)

    def foresee(self, reference: str, settings: Settings) -> Prospect:
        return Prospect("fake", "the only one here", self.sizes.get(reference.partition(":")[0], 0))

    @property
    def bytes(self) -> int:
        return sum(self.sizes.get(model.info.model.partition(":")[0], 0) for model in self.open)

    @property
    def names(self) -> set[str]:
        return {model.info.model for model in self.open}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, {"MADANG_HOME": str(tmp_path / "home")})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_pool(settings: Settings, clock: Clock) -> Iterator[Callable[..., Pool]]:
    with ExitStack() as stack:

        def opened(shelf: Shelf, budget_bytes: int = 10**9, **options: float) -> Pool:
            pool = Pool(
                settings,
                budget_bytes=budget_bytes,
                open_loaded=shelf.load,
                foresee=shelf.foresee,
                clock=clock,
                **options,
            )
            stack.callback(pool.close)
            return pool

        yield opened


OpenPool = Callable[..., Pool]


def touch(pool: Pool, reference: str, **options: float) -> Loaded:
    with pool.lease(reference, **options) as loaded:
        return loaded


# -- one load


def test_a_model_is_loaded_when_it_is_asked_for_and_stays(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool = open_pool(shelf)
    assert (shelf.loads, pool.resident()) == ([], [])
    assert touch(pool, "a:1") is touch(pool, "a:1")
    assert shelf.loads == ["a:1"]


def test_however_many_ask_it_is_loaded_once(open_pool: OpenPool) -> None:
    shelf, n_asking = Shelf(), 8
    pool, started = open_pool(shelf), threading.Barrier(n_asking + 1)
    release = threading.Event()
    shelf.gate = lambda: release.wait(WAIT_S)

    def ask() -> Loaded:
        started.wait(WAIT_S)
        return touch(pool, "a:1")

    with ThreadPoolExecutor(n_asking) as threads:
        asked = [threads.submit(ask) for _ in range(n_asking)]
        started.wait(WAIT_S)
        release.set()
        assert len({id(task.result(WAIT_S)) for task in asked}) == 1
    assert shelf.loads == ["a:1"]


def test_two_models_load_at_the_same_time(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool, both = open_pool(shelf), threading.Barrier(2)
    shelf.gate = lambda: both.wait(WAIT_S)  # broken unless both are there
    with ThreadPoolExecutor(2) as threads:
        for task in [threads.submit(touch, pool, name) for name in ("a:1", "b:1")]:
            task.result(WAIT_S)
    assert shelf.names == {"a:1", "b:1"}


def test_a_load_that_fails_fails_for_all_who_waited_and_the_next_tries_again(open_pool: OpenPool) -> None:
    shelf, n_asking = Shelf(), 4
    pool, release = open_pool(shelf), threading.Event()
    shelf.trouble.add("a:1")
    shelf.gate = lambda: release.wait(WAIT_S)
    with ThreadPoolExecutor(n_asking) as threads:
        first = threads.submit(touch, pool, "a:1")
        others = [threads.submit(touch, pool, "a:1") for _ in range(n_asking - 1)]
        release.set()
        errors = {id(task.exception(WAIT_S)) for task in (first, *others)}
    assert len(errors) == len(shelf.loads)  # those who came too late for the first load had one of their own
    shelf.trouble.clear()
    assert touch(pool, "a:1").info.model == "a:1"
    assert [resident.n_leases for resident in pool.resident()] == [0]


@pytest.mark.parametrize(
    ("reference", "error"), [("two words", InvalidReference), ("xyzzy:1b", ModelNotFound), ("smollm2", ModelNotFound)]
)
def test_what_cannot_be_opened_is_said_as_everywhere(
    settings: Settings, reference: str, error: type[MadangError]
) -> None:
    pool = Pool(settings)
    for _ in range(2):
        with pytest.raises(error), pool.lease(reference):
            pass
    assert pool.resident() == []


# -- names


def test_names_of_the_same_model_share_it(open_pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    pool = open_pool(shelf)
    assert touch(pool, "smollm2") is touch(pool, STARTER) is touch(pool, "SmolLM2:latest")
    monkeypatch.chdir(tmp_path)
    assert touch(pool, "./m.gguf") is touch(pool, f"file:{tmp_path}/m.gguf") is touch(pool, "m.gguf")
    assert shelf.loads == [STARTER, f"file:{tmp_path}/m.gguf"]


def test_two_paths_to_one_file_are_one_model(open_pool: OpenPool, tmp_path: Path, starter_gguf: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(starter_gguf)
    pool = open_pool(Shelf())
    assert touch(pool, str(link)) is touch(pool, str(starter_gguf))


def test_an_engine_without_files_takes_any_name(tmp_path: Path) -> None:
    echo = load_settings({"engine": "echo"}, {"MADANG_HOME": str(tmp_path)})
    pool = Pool(echo)
    with pool.lease("any name: at all") as engine:
        assert engine.info.model == "any name: at all"
    assert pool.resident()[0].reason.startswith("Runs with echo (asked for by name); kept for 5 min")
    with pytest.raises(UnknownOption):
        identify("a", load_settings({"engine": "ecco"}, {"MADANG_HOME": str(tmp_path)}))
    pool.close()


# -- files that change, engines that die


def test_a_model_whose_files_changed_is_opened_again(open_pool: OpenPool, tmp_path: Path, starter_gguf: Path) -> None:
    path = tmp_path / "model.gguf"
    content = starter_gguf.read_bytes()[:5_000_000]
    path.write_bytes(content)
    shelf = Shelf()
    pool = open_pool(shelf)
    with pool.lease(str(path)) as first:
        path.write_bytes(content + b"more")
        second = touch(pool, str(path))
        assert second is not first
        assert isinstance(first, Model)
        assert not first.closed.is_set()  # it is in use
    assert first.closed.is_set()
    assert touch(pool, str(path)) is second
    path.unlink()
    assert touch(pool, str(path)) is not second  # opening a file that is gone is what says so
    assert len(shelf.open) == 1


def test_a_model_whose_process_died_is_opened_again(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool = open_pool(shelf)
    with pool.lease("a:1") as lost:
        assert isinstance(lost, Model)
        lost.is_alive = False
    assert touch(pool, "a:1") is not lost
    assert lost.closed.is_set()
    assert shelf.loads == ["a:1", "a:1"]


# -- how long


def test_a_model_leaves_when_its_time_is_over(open_pool: OpenPool, clock: Clock) -> None:
    shelf = Shelf()
    pool = open_pool(shelf, keep_alive_s=100)
    touch(pool, "a:1")
    touch(pool, "b:1", keep_alive_s=50)
    touch(pool, "c:1", keep_alive_s=-1)
    touch(pool, "d:1", keep_alive_s=0)
    assert shelf.names == {"a:1", "b:1", "c:1"}
    for now, left in ((49, {"a:1", "b:1", "c:1"}), (50, {"a:1", "c:1"}), (100, {"c:1"}), (10**9, {"c:1"})):
        clock.now = now
        pool.expire()
        assert {resident.reference for resident in pool.resident()} == left


def test_time_counts_from_the_end_of_the_last_lease(open_pool: OpenPool, clock: Clock) -> None:
    pool = open_pool(Shelf(), keep_alive_s=10)
    with pool.lease("a:1"):
        clock.now = 1000
        pool.expire()
        touch(pool, "a:1", keep_alive_s=0)  # another one uses it still
        assert len(pool.resident()) == 1
        touch(pool, "a:1")
    clock.now = 1009
    pool.expire()
    assert len(pool.resident()) == 1
    clock.now = 1010
    pool.expire()
    assert pool.resident() == []


def test_memory_is_freed_on_time_without_anybody_asking(settings: Settings) -> None:
    shelf = Shelf()
    pool = Pool(settings, keep_alive_s=0.01, open_loaded=shelf.load, foresee=shelf.foresee)
    touch(pool, "slow:1", keep_alive_s=1000)
    model = touch(pool, "a:1")
    assert isinstance(model, Model)
    assert model.closed.wait(WAIT_S)
    assert shelf.names == {"slow:1"}
    pool.close()


def test_unloading(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool = open_pool(shelf)
    assert not pool.unload("a:1")
    touch(pool, "a:1", keep_alive_s=-1)
    assert pool.unload("a:1")
    assert (shelf.open, pool.unload("a:1")) == ([], False)
    with pool.lease("a:1"):
        assert pool.unload("a:1")
        assert shelf.names == {"a:1"}  # in use until here
    assert shelf.open == []


# -- room


def test_the_least_recently_used_model_makes_room(open_pool: OpenPool) -> None:
    shelf = Shelf(a=4, b=4, c=4)
    pool = open_pool(shelf, budget_bytes=10)
    for name in ("a:1", "b:1", "a:1", "c:1"):
        touch(pool, name)
    assert shelf.names == {"a:1", "c:1"}
    touch(pool, "b:1")
    assert shelf.names == {"c:1", "b:1"}
    assert shelf.most_bytes <= 10


def test_as_many_as_needed_leave_and_no_more(open_pool: OpenPool) -> None:
    shelf = Shelf(a=2, b=2, c=2, d=5, nothing=0)
    pool = open_pool(shelf, budget_bytes=8)
    for name in ("nothing:1", "a:1", "b:1", "c:1", "d:1"):
        touch(pool, name)
    assert shelf.names == {"nothing:1", "c:1", "d:1"}


def test_a_model_in_use_never_makes_room(open_pool: OpenPool) -> None:
    shelf = Shelf(a=4, b=4, c=8)
    pool = open_pool(shelf, budget_bytes=10)
    touch(pool, "b:1")
    with pool.lease("a:1"):
        with pytest.raises(NotEnoughMemory) as caught, pool.lease("c:1"):
            pass
        assert (caught.value.needed_bytes, caught.value.available_bytes) == (8, 6)
        assert "1 other model is answering" in (caught.value.hint or "")
        assert shelf.names == {"a:1", "b:1"}  # nothing was closed in vain
    touch(pool, "c:1")
    assert shelf.names == {"c:1"}


class Watched(Clock):
    """Says when somebody, who then holds the pool's lock, looks how long to wait."""

    def __init__(self) -> None:
        self.looked: dict[int, int] = {}
        self.again = threading.Event()

    def __call__(self) -> float:
        thread = threading.get_ident()
        self.looked[thread] = self.looked.get(thread, 0) + 1
        if self.looked[thread] > 1:  # the first look is at the start of a load
            self.again.set()
        return self.now


@pytest.fixture
def impatient(settings: Settings) -> Iterator[tuple[Pool, Shelf, Watched]]:
    """A pool that waits for 60 s of its clock, with room for one of two models."""
    shelf, clock = Shelf(a=8, b=8, c=1), Watched()
    pool = Pool(settings, budget_bytes=10, patience_s=60, open_loaded=shelf.load, foresee=shelf.foresee, clock=clock)
    yield pool, shelf, clock
    pool.close()


def test_a_lease_waits_for_another_to_end(impatient: tuple[Pool, Shelf, Watched]) -> None:
    pool, shelf, clock = impatient
    with ThreadPoolExecutor(2) as threads:
        with pool.lease("a:1"):
            waiting = [threads.submit(touch, pool, "b:1") for _ in range(2)]
            assert clock.again.wait(WAIT_S)
            assert shelf.names == {"a:1"} and not any(one.done() for one in waiting)
        assert len({id(one.result(WAIT_S)) for one in waiting}) == 1
    assert (shelf.names, shelf.loads, shelf.most_bytes) == ({"b:1"}, ["a:1", "b:1"], 8)


def test_a_lease_waits_only_so_long(impatient: tuple[Pool, Shelf, Watched]) -> None:
    pool, shelf, clock = impatient
    with ThreadPoolExecutor(1) as threads, pool.lease("a:1"):
        waiting = threads.submit(touch, pool, "b:1")
        assert clock.again.wait(WAIT_S)
        touch(pool, "c:1")  # something changes, and there is still no room
        assert not waiting.done()
        clock.now = 61
        touch(pool, "c:1")
        with pytest.raises(NotEnoughMemory, match="b:1"):
            waiting.result(WAIT_S)
    touch(pool, "b:1")
    assert shelf.names >= {"b:1"}


def test_what_never_fits_and_what_a_closed_pool_has_is_not_waited_for(impatient: tuple[Pool, Shelf, Watched]) -> None:
    pool, shelf, clock = impatient
    shelf.sizes["huge"] = 11
    with ThreadPoolExecutor(1) as threads, pool.lease("a:1"):
        with pytest.raises(NotEnoughMemory), pool.lease("huge:1"):
            pass
        clock.again.clear()
        waiting = threads.submit(touch, pool, "b:1")
        assert clock.again.wait(WAIT_S)
        pool.close()
        with pytest.raises(EngineError, match="closed"):
            waiting.result(WAIT_S)
    assert shelf.loads == ["a:1"]


def test_a_model_that_never_fits_is_refused_with_the_numbers(open_pool: OpenPool) -> None:
    shelf = Shelf(a=4, huge=11)
    pool = open_pool(shelf, budget_bytes=10)
    touch(pool, "a:1")
    with pytest.raises(NotEnoughMemory) as caught, pool.lease("huge:1"):
        pass
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (11, 10)
    assert (shelf.names, shelf.loads) == ({"a:1"}, ["a:1"])


def test_what_needs_more_than_was_foreseen_gets_the_room_of_others(settings: Settings) -> None:
    shelf = Shelf()

    def load(reference: str, settings: Settings) -> Loaded:
        if reference == "c:1" and "b:1" in shelf.names:
            raise NotEnoughMemory(reference, 2, 1)
        return shelf.load(reference, settings)

    pool = Pool(settings, open_loaded=load, foresee=shelf.foresee)
    for name in ("a:1", "b:1", "c:1"):
        touch(pool, name)
    assert shelf.names == {"c:1"}
    with pool.lease("c:1"):
        touch(pool, "b:1")
    with pool.lease("b:1"):
        pool.unload("c:1")
        with pytest.raises(NotEnoughMemory), pool.lease("c:1"):
            pass
    pool.close()


def test_what_a_model_takes_is_foreseen_from_its_files(settings: Settings, starter_gguf: Path) -> None:
    prospect = foresee(str(starter_gguf), settings)
    assert (prospect.engine, prospect.reason) == ("native", "first installed engine that reads gguf files")
    assert prospect.needed_bytes > starter_gguf.stat().st_size
    short = load_settings({"context": 256}, {"MADANG_HOME": str(settings.home)})
    assert foresee(str(starter_gguf), short).needed_bytes < prospect.needed_bytes


# -- what is here


def test_what_is_resident_says_why_and_for_how_long(open_pool: OpenPool) -> None:
    pool = open_pool(Shelf(a=4), keep_alive_s=60)
    before = datetime.now(UTC)
    with pool.lease("a:1"), pool.lease("a:1"):
        (resident,) = pool.resident()
        assert resident.reason == "Runs with fake (the only one here); 2 requests use it now."
        assert resident.n_leases == 2
    (resident,) = pool.resident()
    assert (resident.reference, resident.info.engine, resident.size_bytes) == ("a:1", "fake", 4)
    assert before <= resident.loaded_at <= datetime.now(UTC)
    assert resident.expires_at is not None
    assert before + timedelta(seconds=60) <= resident.expires_at <= datetime.now(UTC) + timedelta(seconds=60)
    assert resident.reason == "Runs with fake (the only one here); kept for 1 min 0 s after its last request."
    touch(pool, "a:1", keep_alive_s=-1)
    assert pool.resident()[0].expires_at is None


def test_a_closed_pool_says_so(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool = open_pool(shelf)
    touch(pool, "idle:1")
    with pool.lease("busy:1"):
        pool.close()
        assert shelf.open == []
    pool.close()
    with pytest.raises(EngineError, match="closed"), pool.lease("idle:1"):
        pass
    assert pool.resident() == []


def test_closing_while_a_model_loads_leaves_nothing_open(open_pool: OpenPool) -> None:
    shelf = Shelf()
    pool, loading, release = open_pool(shelf), threading.Event(), threading.Event()

    def gate() -> None:
        loading.set()
        release.wait(WAIT_S)

    shelf.gate = gate
    with ThreadPoolExecutor(1) as threads:
        task = threads.submit(touch, pool, "a:1")
        assert loading.wait(WAIT_S)
        pool.close()
        release.set()
        task.exception(WAIT_S)
    assert shelf.open == []


def test_settings_of_a_request_never_load_a_model_again(settings: Settings) -> None:
    echo = load_settings({"engine": "echo"}, {"MADANG_HOME": str(settings.home)})
    pool = Pool(echo)
    with pool.lease("m") as first:
        collect(first.generate(Request(prompt="hello", context_tokens=100)))  # type: ignore[attr-defined]
    with pool.lease("m") as second:
        collect(second.generate(Request(prompt="hello", context_tokens=7)))  # type: ignore[attr-defined]
    assert first is second
    pool.close()


# -- crowds


def test_a_crowd_that_wants_more_than_fits(settings: Settings) -> None:
    shelf = Shelf(a=3, b=4, c=5, d=1)
    pool = Pool(settings, budget_bytes=12, keep_alive_s=0.001, open_loaded=shelf.load, foresee=shelf.foresee)
    n_answers = [0] * 6

    def use(worker: int) -> None:
        random = Random(worker)
        for _ in range(150):
            name = random.choice("abcd") + ":1"
            try:
                with pool.lease(name, keep_alive_s=random.choice([None, 0, -1, 0.001])) as loaded:
                    assert isinstance(loaded, Model)
                    assert not loaded.closed.is_set()
                    assert loaded.info.model == name
                    n_answers[worker] += 1
                    if random.random() < 0.1:
                        pool.unload(name)
            except NotEnoughMemory as error:
                assert (error.available_bytes or 0) < error.needed_bytes

    with ThreadPoolExecutor(len(n_answers)) as threads:
        for task in [threads.submit(use, worker) for worker in range(len(n_answers))]:
            task.result(60)
    assert all(n_answers)
    assert shelf.most_bytes <= 12
    pool.close()
    assert shelf.open == []


def test_twenty_who_want_three_models_where_one_fits_are_all_answered(settings: Settings) -> None:
    """Nobody waits inside the pool for a model in use: who is refused asks again, and idle models make room."""
    shelf = Shelf(a=10, b=10, c=10)
    pool = Pool(settings, budget_bytes=12, open_loaded=shelf.load, foresee=shelf.foresee)
    ready, n_each = threading.Barrier(20), 5

    def use(worker: int) -> int:
        name, n_refused = f"{'abc'[worker % 3]}:1", 0
        pause = threading.Event()
        ready.wait(WAIT_S)
        for _ in range(n_each):
            while True:
                try:
                    with pool.lease(name) as loaded:
                        assert isinstance(loaded, Model)
                        assert not loaded.closed.is_set()
                        pause.wait(0.002)  # an answer
                    break
                except NotEnoughMemory as error:
                    assert "try again" in (error.hint or "")
                    n_refused += 1
                    pause.wait(0.005)
            pause.wait(0.005)  # what clients do between two requests
        return n_refused

    with ThreadPoolExecutor(20) as threads:
        for task in [threads.submit(use, worker) for worker in range(20)]:
            task.result(60)
    assert shelf.most_bytes <= 12
    assert len(shelf.loads) < 20 * n_each  # those that come while a model is there share it
    pool.close()
    assert shelf.open == []
