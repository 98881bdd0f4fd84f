"""Tables that nobody has analysed yet: what is checked for each row must not read the others."""

from collections.abc import AsyncIterator
from itertools import pairwise
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import ForeignKeyConstraint, text
from tests.support import new_school
from tests.support_trace import World, trade

from onefold.ports.tables import rows_of
from onefold.ports.unit_of_work import Transaction
from onefold.testing.clock import ManualClock
from onefold_server.domains.trades.tables import attempts, deliveries, revisions
from onefold_server.installation import build
from onefold_server.settings import Settings

_CHECKED = sorted(
    (
        one
        for table in (revisions, deliveries, attempts)
        for one in table.foreign_key_constraints
        # Destinations are few, and each has its school's name for it.
        if one.referred_table.name not in {"schools", "trace_destinations"}
    ),
    key=lambda one: str(one.name),
)


@pytest.fixture
async def world(empty_postgres_url: str) -> AsyncIterator[World]:
    """Trace on a PostgreSQL that was never analysed; SQLite has one way to check a reference."""
    settings = Settings(database_url=SecretStr(empty_postgres_url))
    onefold = build(settings, clock=ManualClock())
    await onefold.migrate()
    yield World(onefold, await new_school(onefold))
    await onefold.aclose()


async def _plan(tx: Transaction, reference: ForeignKeyConstraint) -> str:
    """How PostgreSQL checks a reference, planned once for all rows (its `ri_triggers.c`)."""
    columns = [element.column.name for element in reference.elements]
    same = " AND ".join(f"x.{name} = ${n}" for n, name in enumerate(columns, start=1))
    query = f"SELECT 1 FROM ONLY {reference.referred_table.name} x WHERE {same}"
    await tx.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
    await tx.execute(text(f"PREPARE checked AS {query} FOR KEY SHARE OF x"))
    nulls = ", ".join(["NULL"] * len(columns))
    rows = (await tx.execute(text(f"EXPLAIN EXECUTE checked({nulls})"))).all()
    await tx.execute(text("DEALLOCATE checked"))
    return "\n".join(line for (line,) in rows)


@pytest.mark.parametrize("reference", _CHECKED, ids=lambda one: one.name)
async def test_a_reference_is_checked_by_the_key(
    world: World, reference: ForeignKeyConstraint
) -> None:
    """By one row, on tables that are empty: the plan outlives them."""
    async with world.onefold.uow.begin() as tx:
        plan = await _plan(tx, reference)

    table = reference.referred_table.name
    assert f"using pk_{table} " in plan or f"using ix_{table}_id " in plan, plan


async def _read(world: World) -> dict[str, int]:
    """Rows that PostgreSQL has read by each index so far, and by reading a table."""
    async with world.onefold.uow.begin() as tx:
        await tx.execute(text("SELECT pg_stat_force_next_flush()"))
    async with world.onefold.uow.read() as tx:
        by_index = "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes"
        by_table = "SELECT relname, seq_tup_read FROM pg_stat_user_tables"
        rows = rows_of(await tx.execute(text(f"{by_index} UNION ALL {by_table}")))
    return {row["indexrelname"]: row["idx_tup_read"] for row in rows}


async def test_closes_read_no_more_when_there_are_more(world: World) -> None:
    """On tables never analysed: 10,000 in a row took three times as long each as 3,000."""
    await world.destination()
    await world.subscribe()
    read = [await _read(world)]
    for _ in range(3):
        many = [(uuid4(), trade(world.now, entry_price=f"1.{n:03}")) for n in range(100)]
        await world.service.record_many(world.school.service, many)
        read.append(await _read(world))

    grown = [
        {name: after[name] - before.get(name, 0) for name in after}
        for before, after in pairwise(read)
    ]
    assert grown[-1]["pk_trace_trades"] >= 100, "nothing was counted"
    most = max(grown[-1], key=lambda name: grown[-1][name])
    assert grown[-1][most] <= 2 * 100 + 50, f"{most} read {grown[-1][most]} rows for 100 closes"
