"""
The numbered faults that only the effect's own transaction can close (B9, B10c, B12).

The effect is a row in a real SQLite file. The twin confirms after the commit, in its other
store; ours confirms inside: `await confirm(session)`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tests.faults.guard_sides import (
    Crash,
    Deliver,
    NaiveSide,
    OnefoldSide,
    Side,
    killed,
    message,
)
from tests.faults.test_idempotency_faults import LATER, SOON

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import sql_guard

NOTE = "idempotency"

_metadata = MetaData()
effects = Table(
    "user_effects",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(64), nullable=False),
)

Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    return None


class Shop:
    """A database with effects, and a handler that writes one in a transaction of its own."""

    def __init__(self, url: str, side: Side) -> None:
        self.engine = create_async_engine(url.replace("sqlite://", "sqlite+aiosqlite://"))
        self.side = side
        self.inside = isinstance(side, OnefoldSide)

    def consumer(
        self,
        *,
        worker: str = "a",
        ahead_s: float = 0,
        before: Hook = _nothing,
        after_commit: Hook = _nothing,
    ) -> Deliver:
        """A worker whose handler calls the hooks at those places."""

        async def handler(_: Any, *, confirm: Any) -> None:
            await before()
            async with AsyncSession(self.engine) as session, session.begin():
                await session.execute(effects.insert().values(event="e"))
                if self.inside:
                    await confirm(session)
            await after_commit()
            if not self.inside:
                await confirm()

        return self.side.consumer(handler, worker=worker, ahead_s=ahead_s)

    async def harm(self) -> str | None:
        """None when there is exactly one effect."""
        async with self.engine.connect() as connection:
            count = select(func.count()).select_from(effects)
            found = (await connection.execute(count)).scalar_one()
        return None if found == 1 else f"{found} effects instead of 1"


async def b09_dying_between_commit_and_confirm_doubles_nothing(shop: Shop) -> str | None:
    """Two stores, and a death between them: after five minutes the event ran again."""

    async def dies() -> None:
        raise Crash

    await killed(shop.consumer(after_commit=dies), message())
    shop.side.world.clock.advance(LATER)
    await shop.consumer(worker="b")(message())
    return await shop.harm()


async def b10_a_zombies_write_does_not_land(shop: Shop) -> str | None:
    """A's lease ran out, B applied the event; then A's own write came, after B's."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def stops() -> None:
        began.set()
        await go_on.wait()

    zombie = asyncio.create_task(shop.consumer(before=stops)(message()))
    await began.wait()
    shop.side.world.clock.advance(LATER)
    await shop.consumer(worker="b")(message())
    go_on.set()
    await zombie
    return await shop.harm()


async def b12_a_clock_that_is_ahead_doubles_nothing(shop: Shop) -> str | None:
    """Its worker takes a live claim for a dead one's; both write."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def stops() -> None:
        began.set()
        await go_on.wait()

    holder = asyncio.create_task(shop.consumer(before=stops)(message()))
    await began.wait()
    shop.side.world.clock.advance(SOON)
    await shop.consumer(worker="b", ahead_s=301)(message())
    go_on.set()
    await holder
    return await shop.harm()


SCENARIOS = [
    b09_dying_between_commit_and_confirm_doubles_nothing,
    b10_a_zombies_write_does_not_land,
    b12_a_clock_that_is_ahead_doubles_nothing,
]
Scenario = Callable[[Shop], Awaitable[str | None]]


@pytest.fixture
async def ours(sqlite_url: str) -> AsyncIterator[Shop]:
    database = Database(sqlite_url)
    shop = Shop(sqlite_url, OnefoldSide(sql_guard(database)))
    async with shop.engine.begin() as connection:
        await connection.run_sync(_metadata.create_all)
    yield shop
    await shop.engine.dispose()
    await database.aclose()


@pytest.fixture
async def naive(tmp_path: Any) -> AsyncIterator[Shop]:
    shop = Shop(f"sqlite:///{tmp_path / 'naive.db'}", NaiveSide())
    async with shop.engine.begin() as connection:
        await connection.run_sync(_metadata.create_all)
    yield shop
    await shop.engine.dispose()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_fault_is_closed(scenario: Scenario, ours: Shop) -> None:
    """The row is there exactly once, whoever wrote when."""
    assert await scenario(ours) is None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_twin_is_caught(scenario: Scenario, naive: Shop) -> None:
    """The design that had the fault shows it in this very scenario."""
    assert await scenario(naive) is not None
