"""What a suite is given, and what its cases share. No pytest here."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar, cast

from sqlalchemy import Column, Integer, MetaData, String, Table, select, update
from sqlalchemy.schema import CreateTable

from onefold.core.envelope import Event
from onefold.core.ids import derived_id
from onefold.ports.deadlines import Deadlines
from onefold.ports.ledger import Ledger
from onefold.ports.outbox import Outbox
from onefold.ports.unit_of_work import Transaction, UnitOfWork
from onefold.ports.watermarks import Watermarks

T = TypeVar("T")

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Effects(Protocol):
    """The effect a domain has in its own rows: named counters. Made for the suites."""

    async def add(self, tx: Transaction, name: str, by: int = 1) -> None:
        """Add *by* to a counter, in the same transaction as everything else."""
        ...

    async def read(self, tx: Transaction, name: str) -> int:
        """What a counter stands at for *tx*; 0 when it was never added to."""
        ...


class RecordEffects:
    """`Effects` for an adapter without SQL, in `tx.records`."""

    async def add(self, tx: Transaction, name: str, by: int = 1) -> None:
        records = _records(tx)
        records[name] = records.get(name, 0) + by

    async def read(self, tx: Transaction, name: str) -> int:
        return cast("int", _records(tx).get(name, 0))


def _records(tx: Transaction) -> dict[str, Any]:
    return cast("dict[str, Any]", tx.records)  # type: ignore[attr-defined]


_counters = Table(
    "contract_counters",
    MetaData(),
    Column("name", String(64), primary_key=True),
    Column("value", Integer, nullable=False),
)


class TableEffects:
    """`Effects` for an adapter with SQL, in a table of its own; see `make`."""

    @classmethod
    async def make(cls, uow: UnitOfWork) -> "TableEffects":
        """Create the table, through the port."""
        async with uow.begin() as tx:
            await tx.execute(CreateTable(_counters))
        return cls()

    async def add(self, tx: Transaction, name: str, by: int = 1) -> None:
        await tx.insert_new(_counters, [{"name": name, "value": 0}])
        mine = _counters.c.name == name
        await tx.execute(update(_counters).where(mine).values(value=_counters.c.value + by))

    async def read(self, tx: Transaction, name: str) -> int:
        query = select(_counters.c.value).where(_counters.c.name == name)
        return (await tx.execute(query)).scalar_one_or_none() or 0


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The adapters over one fresh store, and the domain's own rows in it."""

    uow: UnitOfWork
    outbox: Outbox
    deadlines: Deadlines
    effects: Effects
    watermarks: Watermarks | None = None
    ledger: Ledger | None = None

    async def effect(self, name: str = "effect") -> int:
        """What is committed of a counter."""
        async with self.uow.read() as tx:
            return await self.effects.read(tx, name)

    async def claimed(self, consumer: str, event_id: str) -> bool:
        """Whether a claim is committed. Asks by claiming, and takes nothing."""
        with rolled_back():
            async with self.uow.begin() as tx:
                first = await tx.claim(consumer, event_id, now=NOON)
                raise RollBack
        return not first

    async def published(self) -> list[str]:
        """The ids of the committed events, in their order."""
        return [event.id for event in await self.outbox.unsent(limit=1000)]

    async def armed(self, kind: str = "contract") -> list[str]:
        """The keys of the committed deadlines, in the order in which they are due."""
        far = NOON.replace(year=NOON.year + 1000)
        return [one.key for one in await self.deadlines.due(kind, now=far, limit=1000)]

    async def do_all(self, tx: Transaction, name: str = "one") -> None:
        """One of everything that a transaction can hold."""
        await self.effects.add(tx, name)
        await tx.claim("contract", name, now=NOON)
        await tx.publish(event(name), now=NOON)
        await tx.schedule("contract", name, due_at=NOON, payload={"of": name})

    async def seen(self, name: str = "one") -> tuple[int, bool, bool, bool]:
        """What is committed of `do_all`: effect, claim, event, deadline."""
        return (
            await self.effect(name),
            await self.claimed("contract", name),
            event(name).id in await self.published(),
            name in await self.armed(),
        )


ALL: Final = (1, True, True, True)
NOTHING: Final = (0, False, False, False)


class Contract:
    """The root of the suites."""

    __test__ = False  # subclasses that name their adapter are collected

    def fresh(self) -> AbstractAsyncContextManager[Stores]:
        """A store that nobody else uses, empty; let go of at the end."""
        raise NotImplementedError


class RollBack(Exception):
    """Raised by a case to leave a transaction without committing it."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """Take the `RollBack` that left a transaction."""
    with suppress(RollBack):
        yield


@contextmanager
def raises(*kinds: type[BaseException]) -> Iterator[None]:
    """Fail unless the block raises one of *kinds*."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"nothing was raised; expected {' or '.join(k.__name__ for k in kinds)}")


def event(name: str, data: Any = None) -> Event:
    """An event whose id follows from *name*."""
    return Event(
        id=str(derived_id("contract", name)),
        type="contract.checked",
        source="onefold.testing",
        occurred_at=NOON,
        data=data,
    )


async def together(*works: Callable[[], Awaitable[T]]) -> list[T]:
    """What the *works* give, each run in a task of its own; all end before this returns."""
    tasks = [asyncio.create_task(_awaited(work)) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def turn() -> None:
    """Let every task that can go on take one step."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


async def apart(work: Callable[[], Awaitable[T]]) -> T:
    """What *work* gives in a task of its own, which may have its own transaction."""
    return await asyncio.create_task(_awaited(work))


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def cases(suite: type[Any]) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
    """The cases of a suite by name."""
    made = suite()
    return {
        name: case
        for name, case in inspect.getmembers(made, inspect.iscoroutinefunction)
        if name.startswith("test_")
    }


async def failures(suite: type[Any]) -> dict[str, Exception]:
    """Run the cases of *suite* one after the other: those that failed, and how."""
    found: dict[str, Exception] = {}
    for name, case in cases(suite).items():
        try:
            await case()
        except Exception as error:  # noqa: BLE001 (a test runner: whatever it is, it is told)
            found[name] = error
    return found
