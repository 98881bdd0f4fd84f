"""On PostgreSQL, tables that fill up are analysed before autovacuum comes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from tests.support import new_school, telemetry_event

from onefold.adapters.sql.statistics import analyse_new_tables
from onefold.ports.tables import rows_of
from onefold.testing.clock import ManualClock
from onefold_server.domains.telemetry.tables import sessions
from onefold_server.installation import Installation, build, run_worker
from onefold_server.settings import Settings

OF_A_SCHOOL = "started_at"  # in the names of the indexes in which its sessions are in order


@pytest.fixture
async def fresh(empty_postgres_url: str) -> AsyncIterator[Installation]:
    """Parts over a database that nobody has analysed."""
    built = build(Settings(database_url=SecretStr(empty_postgres_url)), clock=ManualClock())
    await built.migrate()
    yield built
    await built.aclose()


async def _take(onefold: Installation, number: int) -> None:
    """That many events, each in a session of its own."""
    school = await new_school(onefold)
    some = [telemetry_event(onefold.clock.now()) for _ in range(number)]
    await onefold.telemetry.ingest(school.service, some)
    async with onefold.uow.begin() as tx:  # told to others within a second, or at once
        await tx.execute(text("SELECT pg_stat_force_next_flush()"))


async def _plan(onefold: Installation) -> str:
    """How a session is looked up by its key."""
    async with onefold.uow.read() as tx:
        (found,) = rows_of(await tx.execute(select(sessions).limit(1)))
        query = f"WHERE school_id = '{found['school_id']}' AND id = '{found['id']}'"
        rows = await tx.execute(text(f"EXPLAIN SELECT 1 FROM telemetry_sessions {query}"))
        return "\n".join(line for (line,) in rows.all())


async def test_a_key_is_looked_up_by_its_index_once_there_are_rows(fresh: Installation) -> None:
    """Before, by one that reads all sessions of the school."""
    await _take(fresh, 500)
    before = await _plan(fresh)

    analysed = await analyse_new_tables(fresh.database)

    assert OF_A_SCHOOL in before
    assert {"telemetry_events", "telemetry_sessions"} <= set(analysed)
    assert OF_A_SCHOOL not in await _plan(fresh)
    assert await analyse_new_tables(fresh.database) == []


async def test_tables_of_few_rows_and_of_others_are_left_alone(fresh: Installation) -> None:
    """Nothing is read that costs nothing, nor what is not ours."""
    await _take(fresh, 20)
    async with fresh.uow.begin() as tx:
        await tx.execute(text("CREATE TABLE theirs AS SELECT generate_series(1, 1000) AS n"))
        await tx.execute(text("SELECT pg_stat_force_next_flush()"))

    assert await analyse_new_tables(fresh.database) == []


async def test_a_running_server_analyses(fresh: Installation) -> None:
    """By itself, and whoever else is at it."""
    await _take(fresh, 500)

    async with run_worker(fresh), asyncio.timeout(10):
        while OF_A_SCHOOL in await _plan(fresh):  # noqa: ASYNC110 (PostgreSQL tells nobody)
            await asyncio.sleep(0)


async def test_many_that_analyse_at_once_do_not_wait_for_each_other(fresh: Installation) -> None:
    """Two processes look at the same moment."""
    await _take(fresh, 500)
    other = build(fresh.settings, clock=fresh.clock)

    found = await asyncio.gather(
        *(analyse_new_tables(one.database) for one in (fresh, other) for _ in range(4))
    )

    await other.aclose()
    assert any("telemetry_sessions" in some for some in found)
    assert await analyse_new_tables(fresh.database) == []
