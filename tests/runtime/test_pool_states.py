"""Any sequence of leases, returns, waits, failures and unloads keeps the pool's promises."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from madang.core.errors import ModelError, NotEnoughMemory
from madang.core.settings import load_settings
from madang.runtime.pool import Pool
from tests.runtime.test_pool import Clock, Model, Shelf

BUDGET_BYTES = 10
SIZES = {"a": 3, "b": 4, "c": 6, "d": 0, "e": 11}
NAMES = strategies.sampled_from([f"{name}:1" for name in SIZES])
KEEP_ALIVE = strategies.sampled_from([None, -1.0, 0.0, 5.0, 50.0])


class PoolStates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.shelf, self.clock = Shelf(**SIZES), Clock()
        self.pool = Pool(
            load_settings({}, {"MADANG_HOME": str(Path(self.folder.name) / "home")}),
            budget_bytes=BUDGET_BYTES,
            keep_alive_s=20,
            open_loaded=self.shelf.load,
            foresee=self.shelf.foresee,
            clock=self.clock,
        )
        self.leases: list[tuple[ExitStack, Model]] = []

    def leased(self) -> set[str]:
        return {model.info.model for _, model in self.leases}

    @rule(name=NAMES, keep_alive_s=KEEP_ALIVE)
    def lease(self, name: str, keep_alive_s: float | None) -> None:
        here, stack = name in self.shelf.names, ExitStack()
        try:
            model = stack.enter_context(self.pool.lease(name, keep_alive_s=keep_alive_s))
        except NotEnoughMemory as error:
            busy = {id(model): SIZES[model.info.model[0]] for _, model in self.leases}
            assert error.available_bytes == BUDGET_BYTES - sum(busy.values()) < SIZES[name[0]]
        except ModelError:
            assert name in self.shelf.trouble
        else:
            assert isinstance(model, Model)
            assert model.info.model == name
            assert here or self.shelf.loads[-1] == name
            self.leases.append((stack, model))

    @precondition(lambda self: self.leases)
    @rule(choice=strategies.integers(0, 10**6))
    def give_back(self, choice: int) -> None:
        stack, _ = self.leases.pop(choice % len(self.leases))
        stack.close()

    @rule(seconds=strategies.sampled_from([1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.pool.expire()
        now = datetime.now(UTC)
        assert all(not resident.expires_at or resident.expires_at >= now for resident in self.pool.resident())

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        here = name in {resident.reference for resident in self.pool.resident()}
        assert self.pool.unload(name) == here
        assert name in self.leased() or name not in self.shelf.names

    @rule(name=NAMES)
    def break_or_mend(self, name: str) -> None:
        self.shelf.trouble ^= {name}

    @precondition(lambda self: self.leases)
    @rule(choice=strategies.integers(0, 10**6))
    def die(self, choice: int) -> None:
        """Its process ends while it is leased; whoever asks next gets another."""
        _, model = self.leases[choice % len(self.leases)]
        name = model.info.model
        if not model.is_alive or sum(other.info.model == name for other in self.shelf.open) > 1:
            return
        model.is_alive = False

    @invariant()
    def what_is_leased_is_open(self) -> None:
        assert all(not model.closed.is_set() for _, model in self.leases)

    @invariant()
    def everything_fits(self) -> None:
        assert self.shelf.most_bytes <= BUDGET_BYTES

    @invariant()
    def leases_are_counted(self) -> None:
        assert sum(resident.n_leases for resident in self.pool.resident()) == len(self.leases)

    def teardown(self) -> None:
        for stack, _ in self.leases:
            stack.close()
        self.pool.close()
        assert self.shelf.open == []
        self.folder.cleanup()


PoolStates.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestPoolStates = PoolStates.TestCase
