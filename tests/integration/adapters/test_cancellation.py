"""A task cancelled at any await leaves no connection lent and no transaction open."""

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event, insert, select
from tests.support import turn_of_the_loop

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.migrate import migrate, require_current
from onefold.adapters.sql.schema import health, inbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import SchemaOutdated
from onefold.ports.deadlines import Deadline
from onefold.ports.unit_of_work import Transaction
from onefold.testing.clock import ManualClock

NOW = ManualClock().now()
SEED = 20260301


class CancelAt:
    """
    Awaits *work*, and cancels its own task at the given awaits, counted from 0.

    Each is told with the number of turns of the event loop by which the cancellation comes
    later: with the answer, or right behind it.
    """

    def __init__(self, work: Coroutine[Any, Any, None], steps: Mapping[int, int]) -> None:
        self._work, self._steps = work, steps
        self.awaits = 0

    def __await__(self) -> Generator[Any, None, None]:
        task = asyncio.current_task()
        assert task is not None
        step = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                awaited = next(step) if error is None else step.throw(error)
            except StopIteration:
                return
            if self.awaits in self._steps:
                _in_turns(self._steps[self.awaits], task.cancel)
            self.awaits += 1
            try:
                yield awaited
                error = None
            except BaseException as thrown:  # noqa: BLE001 (handed on to the work)
                error = thrown


def _in_turns(turns: int, call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    if turns == 0:
        loop.call_soon(call)
    else:
        loop.call_soon(_in_turns, turns - 1, call)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, wait_s=5)
    yield opened
    await opened.aclose()


async def _everything(tx: Transaction, event_id: str) -> None:
    """Both ways to the driver: through SQLAlchemy and beside it."""
    assert await tx.claim("cancelled", event_id, now=NOW)
    await tx.execute(insert(health).values(node=event_id, seen_at=NOW))
    await tx.schedule("cancelled", event_id, due_at=NOW, payload={})


async def _run(work: Coroutine[Any, Any, None], steps: Mapping[int, int]) -> tuple[bool, int]:
    """Whether the work came to its end, and how many awaits it took."""
    cancelling = CancelAt(work, steps)

    async def run() -> None:
        await cancelling

    try:
        await asyncio.create_task(run())
    except asyncio.CancelledError:
        return False, cancelling.awaits
    return True, cancelling.awaits


class _RollBack(Exception):
    pass


async def _cancelled_in_a_statement(database: Database) -> None:
    task = asyncio.current_task()
    assert task is not None
    async with SqlUnitOfWork(database).begin() as tx:
        task.cancel()
        await tx.execute(select(1))


async def _settled(database: Database) -> None:
    """Nothing is lent, no transaction is open, and a writer can begin at once."""
    await turn_of_the_loop()
    pools = {database.writer.pool, database.reader.pool}
    assert {pool.checkedout() for pool in pools} == {0}  # type: ignore[attr-defined]
    assert {free.locked() for free in database._free.values()} == {False}
    assert not database._lent
    if database.dialect.FEATURES.name == "postgresql":
        assert await _busy_backends(database) == []
    with suppress(_RollBack):
        async with SqlUnitOfWork(database).begin() as tx:
            await _everything(tx, "probe")
            raise _RollBack


async def _busy_backends(database: Database) -> list[str]:
    async with database.writer.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        return [row.state for row in rows]


async def _recorded(database: Database, name: str) -> tuple[int, int]:
    """How much of `_everything` is committed under that name."""
    async with SqlUnitOfWork(database).read() as tx:
        claims = await tx.execute(select(inbox).where(inbox.c.event_id == name))
        rows = await tx.execute(select(health).where(health.c.node == name))
        return len(claims.all()), len(rows.all())


NOTHING, ALL = (0, 0), (1, 1)


@pytest.mark.parametrize(
    ("connected", "turns"),
    [(True, 0), (True, 1), (True, 2), (False, 0)],
    ids=["at once", "with the answer", "after the answer", "connecting"],
)
async def test_a_write_cancelled_at_any_await_is_whole_or_nothing(
    database: Database, *, connected: bool, turns: int
) -> None:
    """Whichever await a cancellation hits, no connection is lost and no half is recorded."""
    uow = SqlUnitOfWork(database)

    async def write(name: str) -> None:
        async with uow.begin() as tx:
            await _everything(tx, name)

    for step in count():
        if not connected:
            await turn_of_the_loop()
            await database.writer.dispose()
        finished, awaits = await _run(write(f"step {step}"), {step: turns})
        await _settled(database)
        recorded = await _recorded(database, f"step {step}")
        assert recorded in ({ALL} if finished else {NOTHING, ALL}), (step, finished)
        if awaits <= step:  # it was over before the moment of the cancellation
            break

    assert step > 3


async def test_a_call_of_the_deadlines_cancelled_at_any_await_is_whole_or_nothing(
    database: Database,
) -> None:
    """Where it is one statement, and a transaction by itself, as where it is several."""
    deadlines = SqlDeadlines(SqlUnitOfWork(database))
    for step in count():
        kind = f"step {step}"
        two = [Deadline(kind=kind, key=key, due_at=NOW, payload={}) for key in "ab"]
        finished, awaits = await _run(deadlines.arm(two), {step: 0})
        await _settled(database)
        armed = len(await deadlines.due(kind, now=NOW, limit=9))
        assert armed in ({2} if finished else {0, 2}), (step, finished)
        if awaits <= step:
            break

    assert step > 0


async def test_reads_cancelled_at_any_await_lose_no_connection(database: Database) -> None:
    """Readers are given back like writers."""
    uow = SqlUnitOfWork(database)

    async def read() -> None:
        async with uow.read() as tx:
            await tx.execute(select(inbox))

    for connected in (True, False):
        for step in count():
            if not connected:
                await turn_of_the_loop()
                await database.reader.dispose()
            _, awaits = await _run(read(), {step: 0})
            await _settled(database)
            if awaits <= step:
                break


async def test_writers_cancelled_at_random_leave_the_pool_whole(database: Database) -> None:
    """Many at once, cancelled once or twice or thrice at moments that a seed picks."""
    uow = SqlUnitOfWork(database)
    chance = random.Random(SEED)

    async def write(name: str) -> None:
        async with uow.begin() as tx:
            await _everything(tx, name)

    for turn in range(12):
        names = [f"{turn} {n}" for n in range(12)]  # more than there are connections
        moments = [
            {chance.randrange(30): chance.randrange(4) for _ in range(chance.randrange(4))}
            for _ in names
        ]
        ends = await asyncio.gather(
            *(_run(write(name), at) for name, at in zip(names, moments, strict=True))
        )
        await _settled(database)
        for name, (finished, _), at in zip(names, ends, moments, strict=True):
            recorded = await _recorded(database, name)
            assert recorded in ({ALL} if finished else {NOTHING, ALL}), (SEED, name, at)
            assert finished or at, (SEED, name, at)


@pytest.mark.parametrize("anew", [False, True], ids=["first", "anew"])
async def test_a_cancelled_opening_of_a_file_ends_with_its_thread(
    sqlite_url: str, *, anew: bool
) -> None:
    """SQLite's thread may answer late: it finds its loop, and its connection a place."""
    asked, answer = threading.Event(), threading.Event()

    class Slow(sqlite3.Connection):
        def __init__(self, *how: Any, **more: Any) -> None:
            asked.set()
            assert answer.wait(20)
            super().__init__(*how, **more)

    database = Database(sqlite_url, wait_s=5)
    if anew:  # the pool holds a place whose connection was thrown away
        await _run(_cancelled_in_a_statement(database), {})

    @event.listens_for(database.writer.sync_engine, "do_connect")
    def _slowly(_dialect: object, _record: object, _args: object, how: dict[str, Any]) -> None:
        how["factory"] = Slow

    async def write() -> None:
        async with SqlUnitOfWork(database).begin():
            raise AssertionError("it was cancelled before")

    writing = asyncio.create_task(write())
    assert await asyncio.to_thread(asked.wait, 20)
    writing.cancel()
    done, _ = await asyncio.wait((writing,), timeout=0.05)
    answer.set()

    assert not done
    with pytest.raises(asyncio.CancelledError):
        await writing
    await _settled(database)
    await database.aclose()


async def test_a_migration_cancelled_at_any_await_is_whole_or_nothing(
    empty_database_url: str,
) -> None:
    """A deployment that is stopped in the middle can be run again."""
    database = Database(empty_database_url, wait_s=5)
    try:
        for step in (*range(8), 20, 60):
            finished, _ = await _run(migrate(database), {step: 0})
            await turn_of_the_loop()
            assert database.writer.pool.checkedout() == 0  # type: ignore[attr-defined]
            if not finished:
                with pytest.raises(SchemaOutdated):
                    await require_current(database)
        await migrate(database)
        await _settled(database)
    finally:
        await database.aclose()
