"""What only PostgreSQL can show: one statement a call, many connections, no deadlock."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import SqlGuard, sql_guard
from onefold.errors import StoreUnavailable
from onefold.ports.guard import Busy, Confirmation, Done, Lease
from onefold.testing.contracts.guard import (
    KEEP,
    LEASE,
    NOW,
    claim_all,
    claim_of,
    claim_one,
    confirm_one,
    lease_one,
)


@pytest.fixture
async def guard(postgres_url: str) -> AsyncIterator[SqlGuard]:
    database = Database(postgres_url)
    yield sql_guard(database)
    await database.aclose()


@pytest.fixture
async def watcher(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_a_call_is_one_statement(postgres_url: str) -> None:
    """Claim and confirm are a round trip each, for one event and for a thousand."""
    sent: list[str] = []
    database = Database(postgres_url)
    counted = sql_guard(database)
    await confirm_one(counted, await lease_one(counted, claim_of("warm up")))
    async with database.writer.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        driver.add_query_logger(lambda record: sent.append(record.query))
    claims = [claim_of(f"e{n}") for n in range(1000)]

    leases = [v for v in await claim_all(counted, claims) if isinstance(v, Lease)]
    answers = await counted.confirm([Confirmation(v) for v in leases], now=NOW, keep=KEEP)
    repeats = await claim_all(counted, claims)
    await database.aclose()

    assert all(answers)
    assert all(isinstance(verdict, Done) for verdict in repeats)
    assert len(sent) == 3, sent


async def test_a_row_that_appears_meanwhile_is_waited_for(
    guard: SqlGuard, watcher: asyncpg.Connection, postgres_url: str
) -> None:
    """An open transaction claims first; the second claimant waits and then sees its lease."""
    first = await asyncpg.connect(postgres_url)
    transaction = first.transaction()
    await transaction.start()
    await first.execute(
        "INSERT INTO onefold_claims (consumer, source, event_id, state, fence, owner, until, "
        "attempt, fingerprint) VALUES ('grades', '', 'e1', 'leased', nextval('onefold_fence'), "
        "'other', $1, 1, $2)",
        NOW + LEASE,
        claim_of("e1").fingerprint,
    )
    second = asyncio.create_task(claim_one(guard, claim_of("e1")))
    while not await watcher.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    ):
        pass
    await transaction.commit()
    await first.close()

    assert await second == Busy(key=claim_of("e1").key, until=NOW + LEASE)


async def test_many_connections_agree_on_one_holder(postgres_url: str) -> None:
    """Ten pools, as ten processes have them: one lease an event, whatever the interleaving."""
    databases = [Database(postgres_url) for _ in range(5)]
    guards = [sql_guard(database) for database in databases]
    ids = [f"e{n}" for n in range(30)]
    try:
        found = await asyncio.gather(
            *(
                claim_all(guard, [claim_of(id_) for id_ in (ids if n % 2 else ids[::-1])])
                for n in range(4)
                for guard in guards
            )
        )
    finally:
        for database in databases:
            await database.aclose()

    leases = [v.key.event_id for verdicts in found for v in verdicts if isinstance(v, Lease)]
    assert sorted(leases) == sorted(ids)


async def test_a_lost_connection_is_store_unavailable(
    guard: SqlGuard, watcher: asyncpg.Connection
) -> None:
    """The next call works again, and the claim is where it was."""
    held = await lease_one(guard, claim_of("e1"), owner="me")
    await watcher.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database()"
    )

    with pytest.raises(StoreUnavailable):
        await confirm_one(guard, held)
    again = await claim_one(guard, claim_of("e1"), owner="me")

    assert again == held
    assert await confirm_one(guard, held)
