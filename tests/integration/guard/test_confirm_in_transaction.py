"""`await confirm(session)`: completion and effect commit together, or neither."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Connection, MetaData, String, Table, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from onefold.adapters.layered import LayeredGuard
from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import sql_guard
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.unprotected import SqlUnprotectedLog
from onefold.core.envelope import Event
from onefold.engine.idempotent import idempotent_consumer
from onefold.engine.outcome import Outcome
from onefold.errors import LeaseLost, NotConfirmed, SchemaOutdated
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Done, Guard, Lease
from onefold.ports.unprotected import Unprotected
from onefold.testing.clock import ManualClock
from onefold.testing.contracts.guard import (
    KEEP,
    LEASE,
    NOW,
    claim_of,
    claim_one,
    lease_one,
)

users = MetaData()
effects = Table("user_effects", users, Column("event_id", String(64), primary_key=True))


def event(n: int = 1) -> Event:
    now = ManualClock().now()
    return Event.new("order.placed", n, source="shop", now=now, random=bytes)


class World:
    """A user's own engine beside a guard over the same database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, wait_s=2)
        self.guard = sql_guard(self.database)
        asyncpg = url.replace("postgresql://", "postgresql+asyncpg://")
        self.engine: AsyncEngine = create_async_engine(
            asyncpg.replace("sqlite://", "sqlite+aiosqlite://")
        )
        self.clock = ManualClock()
        self.runs = 0

    async def effect_count(self) -> int:
        async with self.engine.connect() as connection:
            found = await connection.execute(select(func.count()).select_from(effects))
            return int(found.scalar_one())

    async def take_over(self, message: Event) -> Lease:
        self.clock.advance(timedelta(seconds=30))
        claim = Claim(ClaimKey("orders", "", message.identity), message.fingerprint())
        return await lease_one(self.guard, claim, owner="other", now=self.clock.now())


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    made = World(database_url)
    async with made.engine.begin() as connection:
        await connection.run_sync(users.create_all)
    yield made
    await made.engine.dispose()
    await made.database.aclose()


@pytest.fixture(params=["sql", "layered"])
def guard(request: pytest.FixtureRequest, world: World) -> Guard:
    """The guard alone, and behind a fast one."""
    return world.guard if request.param == "sql" else LayeredGuard(MemoryGuard(), world.guard)


@asynccontextmanager
async def _session(world: World) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(world.engine) as session, session.begin():
        yield session


@asynccontextmanager
async def _connection(world: World) -> AsyncIterator[Any]:
    async with world.engine.begin() as connection:
        yield connection


@asynccontextmanager
async def _unit_of_work(world: World) -> AsyncIterator[Any]:
    async with SqlUnitOfWork(world.database).begin() as tx:
        yield tx


BEGINS = [_session, _connection, _unit_of_work]


@pytest.mark.parametrize("begin", BEGINS, ids=lambda begin: begin.__name__.strip("_"))
async def test_the_completion_commits_with_the_effect(
    world: World, guard: Guard, begin: Any
) -> None:
    """Both are there after the commit, and a redelivery is a repeat."""

    @idempotent_consumer(guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> str:
        async with begin(world) as tx:
            await tx.execute(effects.insert().values(event_id=message.identity))
            await confirm(tx, result="stored")
        return "returned"

    first, second = await handle(event()), await handle(event())

    assert first == Outcome.APPLIED("returned")
    assert second == Outcome.REPEATED(world.clock.now(), "stored")
    assert await world.effect_count() == 1


@pytest.mark.parametrize("begin", BEGINS, ids=lambda begin: begin.__name__.strip("_"))
async def test_a_rollback_takes_both_back(world: World, guard: Guard, begin: Any) -> None:
    """The handler fails after `confirm(session)`: nothing is on record, and it runs again."""

    @idempotent_consumer(guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> None:
        world.runs += 1
        async with begin(world) as tx:
            await tx.execute(effects.insert().values(event_id=message.identity))
            await confirm(tx)
            if world.runs == 1:
                raise RuntimeError("after the confirmation, before the commit")

    with pytest.raises(RuntimeError):
        await handle(event())
    after_failure = await world.effect_count()
    outcome = await handle(event())

    assert after_failure == 0
    assert isinstance(outcome, Outcome.APPLIED)
    assert await world.effect_count() == 1


@pytest.mark.parametrize("begin", BEGINS, ids=lambda begin: begin.__name__.strip("_"))
async def test_a_zombies_effect_is_rolled_back(world: World, guard: Guard, begin: Any) -> None:
    """Its lease was taken: confirming raises inside its transaction, its effect is undone."""

    @idempotent_consumer(guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> None:
        await world.take_over(message)
        async with begin(world) as tx:
            await tx.execute(effects.insert().values(event_id=message.identity))
            await confirm(tx)

    with pytest.raises(LeaseLost):
        await handle(event())

    assert await world.effect_count() == 0


async def test_a_transaction_that_never_commits_is_noticed(world: World, guard: Guard) -> None:
    """Returning after a swallowed rollback is no success: nothing was applied."""

    @idempotent_consumer(guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> None:
        async with AsyncSession(world.engine) as session:  # no begin, no commit
            await session.execute(effects.insert().values(event_id=message.identity))
            await confirm(session)

    with pytest.raises(NotConfirmed, match="orders confirmed in a transaction that was not"):
        await handle(event())

    assert await world.effect_count() == 0


async def test_raising_after_the_commit_undoes_nothing(world: World, guard: Guard) -> None:
    """The failure says that the event is applied for good (B3)."""

    @idempotent_consumer(guard, name="orders", clock=world.clock, failures="return")
    async def handle(message: Event, *, confirm: Any) -> None:
        async with _session(world) as session:
            await session.execute(effects.insert().values(event_id=message.identity))
            await confirm(session)
        raise RuntimeError("while logging")

    outcome, again = await handle(event()), await handle(event())

    assert isinstance(outcome, Outcome.FAILED)
    assert outcome.confirmed
    assert isinstance(again, Outcome.REPEATED)
    assert await world.effect_count() == 1


async def test_confirming_twice_in_one_transaction_is_harmless(world: World) -> None:
    """The second one finds the first one's."""

    @idempotent_consumer(world.guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> None:
        async with _session(world) as session:
            await session.execute(effects.insert().values(event_id=message.identity))
            await confirm(session)
            await confirm(session)
        await confirm()

    assert isinstance(await handle(event()), Outcome.APPLIED)


async def test_a_batch_confirms_in_one_transaction(world: World) -> None:
    """Each for itself, in the order asked; the lost one is told."""
    leases = [await lease_one(world.guard, claim_of(id_)) for id_ in ("c", "a", "b")]
    await lease_one(world.guard, claim_of("a"), now=NOW + LEASE)
    async with _session(world) as session:
        answers = await world.guard.confirm_in(
            session, [Confirmation(held) for held in leases], now=NOW + LEASE, keep=KEEP
        )

    assert list(answers) == [True, False, True]
    assert isinstance(await claim_one(world.guard, claim_of("c")), Done)


async def test_a_database_without_the_table_says_so(world: World, tmp_path: Any) -> None:
    """The session is of another database than the guard's: nothing is taken for granted."""
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")

    @idempotent_consumer(world.guard, name="orders", clock=world.clock)
    async def handle(_: Event, *, confirm: Any) -> None:
        async with AsyncSession(other) as session, session.begin():
            await confirm(session)

    try:
        with pytest.raises(SchemaOutdated):
            await handle(event())
    finally:
        await other.dispose()


class TestSynchronousSessions:
    """A handler in a thread with a plain `Session` or `Connection`."""

    @pytest.fixture
    async def sync_world(self, sqlite_url: str) -> AsyncIterator[World]:
        made = World(sqlite_url)
        async with made.engine.begin() as connection:
            await connection.run_sync(users.create_all)
        self.plain = create_engine(sqlite_url)
        yield made
        self.plain.dispose()
        await made.engine.dispose()
        await made.database.aclose()

    @pytest.mark.parametrize("kind", [Session, Connection])
    async def test_the_completion_commits_with_the_effect(
        self, sync_world: World, kind: type
    ) -> None:
        """As with async ones."""

        @idempotent_consumer(sync_world.guard, name="orders", clock=sync_world.clock)
        def handle(message: Event, *, confirm: Any) -> None:
            begun = Session(self.plain) if kind is Session else self.plain.connect()
            with begun as tx, tx.begin():
                tx.execute(effects.insert().values(event_id=message.identity))
                confirm(tx)

        first, second = await handle(event()), await handle(event())

        assert isinstance(first, Outcome.APPLIED)
        assert isinstance(second, Outcome.REPEATED)
        assert await sync_world.effect_count() == 1

    async def test_an_async_handler_may_use_a_plain_session(self, sync_world: World) -> None:
        """It blocks the loop for that long, and works."""

        @idempotent_consumer(sync_world.guard, name="orders", clock=sync_world.clock)
        async def handle(message: Event, *, confirm: Any) -> None:
            with Session(self.plain) as session, session.begin():
                session.execute(effects.insert().values(event_id=message.identity))
                await confirm(session)

        assert isinstance(await handle(event()), Outcome.APPLIED)

    async def test_a_zombies_effect_is_rolled_back(self, sync_world: World) -> None:
        """As with async ones."""
        loop = asyncio.get_running_loop()

        @idempotent_consumer(sync_world.guard, name="orders", clock=sync_world.clock)
        def handle(message: Event, *, confirm: Any) -> None:
            taking = sync_world.take_over(message)
            asyncio.run_coroutine_threadsafe(taking, loop).result()
            with Session(self.plain) as session, session.begin():
                session.execute(effects.insert().values(event_id=message.identity))
                confirm(session)

        with pytest.raises(LeaseLost):
            await handle(event())

        assert await sync_world.effect_count() == 0


async def test_a_constraint_of_the_users_is_the_users(world: World) -> None:
    """The driver's error of the user's own statement comes out as it is."""

    @idempotent_consumer(world.guard, name="orders", clock=world.clock)
    async def handle(message: Event, *, confirm: Any) -> None:
        async with _session(world) as session:
            for _ in range(2):
                await session.execute(effects.insert().values(event_id=message.identity))
            await confirm(session)

    with pytest.raises(IntegrityError):
        await handle(event())


async def test_unprotected_runs_survive_the_process(world: World) -> None:
    """Noted, counted, settled; the oldest first."""
    log = SqlUnprotectedLog(SqlUnitOfWork(world.database))
    keys = [ClaimKey("orders", "", id_) for id_ in ("b", "a")]
    for n, key in enumerate((*keys, keys[1])):
        at = NOW + timedelta(seconds=n)
        await log.note(Unprotected(key=key, fingerprint=b"f" * 32, processed_at=at))

    noted = await log.unsettled(limit=10)
    await log.settle(keys[:1], now=NOW)
    left = await log.unsettled(limit=10)

    assert [(each.key.event_id, each.times) for each in noted] == [("b", 1), ("a", 2)]
    assert [each.key for each in left] == keys[1:]
