"""Guards that a URL names: of every store, fit to be used, and closed at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import Column, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from tests.support_valkey import Valkey

from onefold import Outcome, idempotent_consumer, open_guard
from onefold.errors import IllegalTransition, InvalidSetting, StoreUnavailable, Unsupported
from onefold.ports.guard import Guard
from onefold.testing.contracts.guard import GuardContract
from onefold.wiring.guards import OpenGuard

MESSAGE = {
    "event_id": "order-1",
    "event_type": "orders.placed",
    "event_timestamp": "2026-11-28T12:00:00Z",
    "source_service": "shop",
    "data": {},
}


class TestOpenGuard(GuardContract):
    """Whoever is given it has a guard."""

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        async with open_guard("memory:") as guard:
            yield guard


Handler = Callable[[Any], Awaitable[object]]


def counted(guard: OpenGuard) -> tuple[Handler, list[object]]:
    """A guarded handler, and what it was run for."""
    runs: list[object] = []

    @idempotent_consumer(guard, name=uuid4().hex)  # of this test alone
    async def count(message: Any, *, confirm: Any) -> None:
        runs.append(message["event_id"])
        await confirm()

    return count, runs


@pytest.fixture(params=["sqlite", "postgresql", "valkey", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that nobody has prepared, as far as it needs that."""
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path}/new.db"
        case "postgresql":
            return str(request.getfixturevalue("postgres_url"))
        case "valkey":
            return str(request.getfixturevalue("valkey").url)
        case _:
            return "memory:"


async def test_a_url_is_enough(url: str) -> None:
    """In every store an event counts once; nothing is to be set up or closed besides."""
    async with open_guard(url) as guard:
        count, runs = counted(guard)

        outcomes = [await count(MESSAGE), await count(MESSAGE)]

    assert [type(one) for one in outcomes] == [Outcome.APPLIED, Outcome.REPEATED]
    assert runs == ["order-1"]


async def test_it_confirms_in_the_users_own_transaction(database_url: str) -> None:
    """The effect and the completion, rolled back together and committed together."""
    effects = Table("effects", MetaData(), Column("id", String(9), primary_key=True))
    driver = "sqlite+aiosqlite:" if database_url.startswith("sqlite") else "postgresql+asyncpg:"
    engine = create_async_engine(driver + database_url.partition(":")[2])
    session_of = async_sessionmaker(engine)
    fails = [True, False]
    guard = open_guard(database_url)

    @idempotent_consumer(guard, name="reserve")
    async def reserve(message: Any, *, confirm: Any) -> None:
        async with session_of() as session, session.begin():
            await session.execute(insert(effects).values(id=message["event_id"]))
            await confirm(session)
            if fails.pop(0):
                raise OSError("too late")

    async with guard:
        async with engine.begin() as connection:
            await connection.run_sync(effects.metadata.create_all)
        with pytest.raises(OSError, match="too late"):
            await reserve(MESSAGE)
        outcome = await reserve(MESSAGE)
        async with session_of() as session:
            kept = (await session.execute(select(effects.c.id))).scalars().all()
    await engine.dispose()

    assert (type(outcome), list(kept)) == (Outcome.APPLIED, ["order-1"])


async def test_one_without_sql_says_that_it_cannot_confirm_in_it() -> None:
    """As its adapter does: the handler is told, and may confirm beside its commit."""
    guard = open_guard("memory:")

    @idempotent_consumer(guard, name="reserve")
    async def reserve(_: Any, *, confirm: Any) -> None:
        await confirm(object())

    with pytest.raises(Unsupported, match="confirming in a SQL transaction"):
        await reserve(MESSAGE)


async def test_a_closed_guard_is_closed(sqlite_url: str) -> None:
    """Twice is as good as once."""
    async with open_guard(sqlite_url) as guard:
        count, _ = counted(guard)
        await guard.aclose()

    with pytest.raises(IllegalTransition, match="closed"):
        await count(MESSAGE)


async def test_a_valkey_that_would_forget_claims_is_refused(valkey: Valkey) -> None:
    """When it is entered, and not when the first claim was evicted."""
    async with Redis.from_url(valkey.url.replace("valkey://", "redis://")) as client:
        await client.config_set("maxmemory", 2**30)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(InvalidSetting, match="noeviction"):
                async with open_guard(valkey.url):
                    pass
        finally:
            await client.config_set("maxmemory", 0)
            await client.config_set("maxmemory-policy", "noeviction")


async def test_a_store_that_is_not_there_is_told_at_the_start() -> None:
    """And nothing stays open."""
    with pytest.raises(
        StoreUnavailable, match=r"/nowhere/x\.db is in a folder that does not exist"
    ):
        async with open_guard("sqlite:////nowhere/x.db"):
            pass


@pytest.mark.parametrize("url", ["", "memory", "mysql://a:secret@b/c", "redis", "sqlite://"])
def test_no_other_url_is_taken(url: str) -> None:
    """With what would be one, and without what may be a password."""
    with pytest.raises(InvalidSetting) as told:
        open_guard(url)

    assert "secret" not in str(told.value)
