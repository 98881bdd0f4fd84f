"""
Dies at every step of a use case, restarts, tries again, and looks at what is left.

A step is a call on a transaction, a begin or a commit; each is died at twice, before it
happens and after it happened with its answer lost. `explore` runs the use case once to count
its steps, then once for each death: over fresh data, until the death; then, as a restarted
process would, again over healthy parts; then the invariants are checked. A failure names
the death, so that it can be replayed by itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from onefold.ports.features import Features
from onefold.ports.unit_of_work import Transaction, UnitOfWork

Case = TypeVar("Case")
_STEPS = frozenset({"execute", "insert_new", "claim", "publish", "schedule"})


class Crash(BaseException):
    """The process dies here. A BaseException, so that no `except Exception` survives it."""


@dataclass
class Fate:
    """Counts steps and dies at one of them; `at` 0 lets everything live."""

    at: int = 0
    moment: str = "before"
    steps: int = 0
    names: list[str] = field(default_factory=list)

    async def step(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        """Run *effect* as the next step, unless this is where the process dies."""
        self.steps += 1
        number = self.steps
        self.names.append(name)
        if (self.at, self.moment) == (number, "before"):
            raise Crash(f"before step {number}, {name}")
        result = await effect()
        if (self.at, self.moment) == (number, "after"):
            raise Crash(f"after step {number}, {name}")
        return result


class MortalTransaction:
    """A transaction each of whose calls may be the last."""

    def __init__(self, inner: Transaction, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    @property
    def features(self) -> Features:
        return self._inner.features

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._inner, name)
        assert name in _STEPS, f"a step the explorer does not know: {name}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._fate.step(name, lambda: method(*args, **kwargs))

        return call


class MortalUnitOfWork:
    """A unit of work whose begins, calls and commits may each be the last."""

    def __init__(self, inner: UnitOfWork, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    @property
    def features(self) -> Features:
        return self._inner.features

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        async with self._died_at("begin", self._inner.begin) as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        async with self._died_at("read", self._inner.read) as tx:
            yield tx

    async def aclose(self) -> None:
        await self._inner.aclose()

    @asynccontextmanager
    async def _died_at(self, name: str, open_: Callable[[], Any]) -> AsyncIterator[Any]:
        context = open_()
        opened = False

        async def enter() -> Any:
            nonlocal opened
            tx = await context.__aenter__()
            opened = True
            return tx

        try:
            tx = await self._fate.step(name, enter)
            yield MortalTransaction(tx, self._fate)
            # The commit: dying before it rolls back, after it its effect is there for good.
            self._fate.steps += 1
            number = self._fate.steps
            self._fate.names.append(f"commit of {name}")
            if (self._fate.at, self._fate.moment) == (number, "before"):
                raise Crash(f"before step {number}, commit of {name}")
        except BaseException as error:
            if opened:  # a dead process' connection is gone, and its transaction with it
                await context.__aexit__(type(error), error, error.__traceback__)
            raise
        await context.__aexit__(None, None, None)
        if (self._fate.at, self._fate.moment) == (number, "after"):
            raise Crash(f"after step {number}, commit of {name}")


@dataclass(frozen=True, kw_only=True)
class Explorer(Generic[Case]):
    """
    One use case under every death.

    Attributes:
        fresh: Makes data that no earlier death has touched.
        act: The use case, over the unit of work it is given.
        check: The invariants, after a death and a retry; raises when one does not hold.
        after_death: Checked between death and retry: nothing or all.
    """

    uow: UnitOfWork
    fresh: Callable[[], Awaitable[Case]]
    act: Callable[[UnitOfWork, Case], Awaitable[Any]]
    check: Callable[[Case], Awaitable[None]]
    after_death: Callable[[Case], Awaitable[None]]

    async def explore(self) -> int:
        """
        How many deaths the use case survived.

        Raises:
            AssertionError: naming the death after which an invariant did not hold.
        """
        count = Fate()
        case = await self.fresh()
        await self.act(MortalUnitOfWork(self.uow, count), case)
        await self.check(case)
        deaths = 0
        for at in range(1, count.steps + 1):
            for moment in ("before", "after"):
                await self._die(Fate(at=at, moment=moment))
                deaths += 1
        return deaths

    async def _die(self, fate: Fate) -> None:
        case = await self.fresh()
        try:
            await self.act(MortalUnitOfWork(self.uow, fate), case)
        except Crash as crash:
            death = str(crash)
        else:
            raise AssertionError(f"survived step {fate.at}, of which there should be more")
        try:
            await self.after_death(case)
            await self.act(self.uow, case)
            await self.act(self.uow, case)
            await self.check(case)
        except Exception as broken:
            raise AssertionError(f"dying {death}: {broken}") from broken
