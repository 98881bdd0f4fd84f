"""
The peers of `benchmarks/versus.py`, each in a process of its own with its own lock file.

    .venv-peers/bin/python benchmarks/peers/run.py <peer> <url> <broker> <topic> <count>

Each has one INSERT effect (on Valkey: one INCR) an event, at the settings that its documents
or our pilot found best. The backlog is there before the clock starts, which is at the first
effect, so that joining a group is not measured. The caller counts the effects.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

import asyncpg

logging.disable(logging.CRITICAL)
EFFECT = "INSERT INTO bench_effects VALUES ($1, $2)"
CLAIM = "INSERT INTO bench_inbox VALUES ($1, now()) ON CONFLICT DO NOTHING RETURNING id"


def uuid(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012x}"


class Countdown:
    """From the first effect to the last of so many."""

    def __init__(self, count: int) -> None:
        self._left, self._done = count, asyncio.Event()
        self._first = self._last = 0.0

    def one(self) -> None:
        """One more has happened."""
        self._last = perf_counter()
        self._first = self._first or self._last
        self._left -= 1
        if self._left <= 0:
            self._done.set()

    async def seconds(self, start: Callable[[], Awaitable[None]]) -> float:
        """Start, and wait for the last."""
        await start()
        await self._done.wait()
        return self._last - self._first


async def outbox(url: str, _broker: str, _topic: str, count: int) -> float:
    """faststream-outbox: 8 workers, fetched and flushed by the hundred."""
    from faststream_outbox import OutboxBroker, make_outbox_table
    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=20
    )
    metadata = MetaData()
    table = make_outbox_table(metadata, "bench_outbox")
    broker = OutboxBroker(engine, outbox_table=table, logger=None)
    pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    left = Countdown(count)

    @broker.subscriber(
        "t",
        max_workers=8,
        fetch_batch_size=100,
        terminal_flush_batch_size=100,
        min_fetch_interval=0.01,
    )
    async def handle(body: dict) -> None:
        await pool.execute(EFFECT, body["id"], body["n"])
        left.one()

    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        for start in range(0, count, 500):
            bodies = [{"id": uuid(n), "n": n} for n in range(start, min(start + 500, count))]
            await broker.publish_batch(*bodies, queue="t", session=connection)
    seconds = await left.seconds(broker.start)
    await broker.stop()
    await pool.close()
    await engine.dispose()
    return seconds


async def dbos(url: str, _broker: str, topic: str, count: int) -> float:
    """DBOS: a workflow an event under the event's id, one datasource transaction in it."""
    import sqlalchemy
    from dbos import DBOS, AsyncSQLAlchemyDatasource, SetWorkflowID

    DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False})
    source = await AsyncSQLAlchemyDatasource.create(
        url.replace("postgresql://", "postgresql+asyncpg://")
    )
    effect = sqlalchemy.text("INSERT INTO bench_effects VALUES (:id, :n)")

    @source.transaction(isolation_level="READ COMMITTED")
    async def write(id_: str, n: int) -> None:
        await source.sql_session().execute(effect, {"id": id_, "n": n})

    @DBOS.workflow()
    async def handle(id_: str, n: int) -> None:
        await write(id_, n)

    DBOS.launch()
    numbers = iter(range(count))

    async def work() -> None:
        for n in numbers:
            with SetWorkflowID(f"{topic}-{n}"):
                await handle(uuid(n), n)

    began = perf_counter()
    await asyncio.gather(*(work() for _ in range(8)))
    seconds = perf_counter() - began
    DBOS.destroy()
    return seconds


async def streams(_url: str, broker_url: str, topic: str, count: int) -> float:
    """FastStream on a Redis stream, SET NX before the effect, 100 records a read."""
    from faststream.redis import RedisBroker, StreamSub
    from redis.asyncio import Redis

    client = Redis.from_url(broker_url)
    broker = RedisBroker(broker_url, logger=None)
    left = Countdown(count)

    @broker.subscriber(
        stream=StreamSub(topic, group="g", consumer="c", last_id=">", max_records=100)
    )
    async def handle(body: dict) -> None:
        if await client.set(f"seen:{topic}:{body['id']}", 1, nx=True, ex=3600):
            await client.incr(f"effect:{topic}:{body['id']}")
        left.one()

    await client.xgroup_create(topic, "g", id="0", mkstream=True)
    await broker.connect()
    for n in range(count):
        await broker.publish({"id": uuid(n), "n": n}, stream=topic)
    seconds = await left.seconds(broker.start)
    await broker.stop()
    await client.aclose()
    return seconds


async def kafka(url: str, bootstrap: str, topic: str, count: int, *, dedup: bool) -> float:
    """FastStream on Kafka, with inbox and effect by hand, or with neither inbox nor care."""
    from confluent_kafka import Producer
    from faststream import AckPolicy
    from faststream.confluent import KafkaBroker

    pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    broker = KafkaBroker(bootstrap, logger=None, allow_auto_create_topics=False)
    left = Countdown(count)
    policy = AckPolicy.NACK_ON_ERROR if dedup else AckPolicy.ACK_FIRST

    @broker.subscriber(
        topic,
        group_id="peer",
        ack_policy=policy,
        auto_offset_reset="earliest",
        max_workers=1 if dedup else 8,  # more are allowed with ACK_FIRST alone
    )
    async def handle(body: dict) -> None:
        if dedup:
            async with pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(CLAIM, body["id"]):
                    await connection.execute(EFFECT, body["id"], body["n"])
        else:
            await pool.execute(EFFECT, body["id"], body["n"])
        left.one()

    producer = Producer({"bootstrap.servers": bootstrap})
    for n in range(count):
        producer.produce(topic, json.dumps({"id": uuid(n), "n": n}), key=str(n % 64))
        producer.poll(0)
    producer.flush()
    seconds = await left.seconds(broker.start)
    await broker.stop()
    await pool.close()
    return seconds


PEERS = {
    "outbox": outbox,
    "dbos": dbos,
    "streams": streams,
    "kafka-dedup": partial(kafka, dedup=True),
    "kafka-auto": partial(kafka, dedup=False),
}

if __name__ == "__main__":
    peer, *where, count = sys.argv[1:]
    print(json.dumps({"seconds": asyncio.run(PEERS[peer](*where, int(count)))}), flush=True)
