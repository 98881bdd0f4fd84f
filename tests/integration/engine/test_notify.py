"""A relay hears of what waits: at once in its process, by NOTIFY from others, else by its poll."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import asyncpg
import pytest
from pydantic import SecretStr
from tests.support_fork import ForkHost
from tests.support_kafka import FAST_GROUPS
from tests.support_valkey import Valkey

from onefold.adapters.kafka.mock import MockCluster
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.ports.transport import Subscription, Transport
from onefold_server.installation import Installation, build, notify_only, run_worker
from onefold_server.settings import Settings

WAIT_S = 15.0
TOPIC = "lesson.ended"


def installed(url: str) -> Installation:
    """A process over *url* whose relay would not look by itself during a test."""
    return build(Settings(database_url=SecretStr(url), relay_poll_s=3600, purge_every_s=3600))


class Reader:
    """Whoever reads the topic on the other side."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription

    async def next(self, count: int = 1) -> list[int]:
        """The numbers of the next *count* events."""
        found: list[int] = []
        async with asyncio.timeout(WAIT_S):
            while len(found) < count:
                received = await self.subscription.receive(max_messages=9, wait_s=WAIT_S)
                found += [decode(m.value or b"", m.headers).data["n"] for m in received]
        return found


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    """A reader that has joined."""
    uow = SqlUnitOfWork(Database(url))
    transport = SqlTransport(uow, partitions=1)
    try:
        yield Reader(await transport.subscribe("readers", [TOPIC]))
    finally:
        await transport.aclose()
        await uow.aclose()


async def publish(onefold: Installation, number: int) -> None:
    """Commit an event of that number."""
    facts = {"source": "s", "now": onefold.clock.now(), "random": Random(number).randbytes}
    async with onefold.uow.begin() as tx:
        await tx.publish(Event.new(TOPIC, {"n": number}, **facts), now=onefold.clock.now())  # type: ignore[arg-type]


async def test_a_commit_here_wakes_the_relay_here(database_url: str) -> None:
    """What is published is sent at once: nobody waits for the poll."""
    onefold = installed(database_url)
    async with reading(database_url) as reader, run_worker(onefold):
        await publish(onefold, 1)
        assert await reader.next() == [1]
        await publish(onefold, 2)
        assert await reader.next() == [2]
    await onefold.aclose()


async def _listeners(admin: asyncpg.Connection) -> set[int]:
    rows = await admin.fetch(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    return {row["pid"] for row in rows}


async def _listening(admin: asyncpg.Connection, *but: int) -> set[int]:
    """The backends that listen, once there is another than *but*."""
    async with asyncio.timeout(WAIT_S):
        while not (found := await _listeners(admin) - {*but}):
            pass
    return found


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_a_commit_elsewhere_is_heard(postgres_url: str, admin: asyncpg.Connection) -> None:
    """A process without a relay rings for those that have one."""
    serving, working = installed(postgres_url), installed(postgres_url)
    async with reading(postgres_url) as reader, run_worker(working), notify_only(serving):
        await _listening(admin)
        await publish(serving, 1)
        assert await reader.next() == [1]
    await serving.aclose()
    await working.aclose()


async def test_a_relay_listens_again_when_it_lost_its_connection(
    postgres_url: str, admin: asyncpg.Connection
) -> None:
    """What was rung while nobody listened is looked for when somebody does again."""
    serving, working = installed(postgres_url), installed(postgres_url)
    async with reading(postgres_url) as reader, run_worker(working), notify_only(serving):
        first = await _listening(admin)
        await admin.execute("SELECT pg_terminate_backend($1)", next(iter(first)))
        await publish(serving, 1)  # most likely heard by nobody
        assert await reader.next() == [1]
        await _listening(admin, *first)
        await publish(serving, 2)
        assert await reader.next() == [2]
    await serving.aclose()
    await working.aclose()


@asynccontextmanager
async def reading_from(broker: Transport) -> AsyncIterator[Reader]:
    """A reader on a broker of its own."""
    try:
        yield Reader(await broker.subscribe("readers", [TOPIC]))
    finally:
        await broker.aclose()


async def test_events_go_to_the_valkey_that_is_set(sqlite_url: str, valkey: Valkey) -> None:
    """`ONEFOLD_VALKEY` alone decides it."""
    onefold = build(Settings(database_url=SecretStr(sqlite_url), valkey=SecretStr(valkey.url)))
    async with reading_from(ValkeyTransport(valkey.url)) as reader, run_worker(onefold):
        await publish(onefold, 7)
        assert await reader.next() == [7]
    await onefold.aclose()


@pytest.mark.timeout(60)
async def test_events_go_to_the_kafka_that_is_set(sqlite_url: str) -> None:
    """`ONEFOLD_KAFKA` alone decides it."""
    with MockCluster() as cluster:
        cluster.create(TOPIC, 1)
        settings = Settings(database_url=SecretStr(sqlite_url), kafka=cluster.bootstrap)
        onefold = build(settings)
        broker = KafkaTransport(cluster.bootstrap, options=FAST_GROUPS)
        async with reading_from(broker) as reader, run_worker(onefold):
            await publish(onefold, 7)
            assert await reader.next() == [7]
        await onefold.aclose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "database_url: expected sqlite:///file.db or postgresql://"),
        ("postgresql://onefold:x@127.0.0.1:9/none", "store_unavailable: "),
        ("sqlite:////nowhere/at/all.db", "/nowhere/at/all.db is in a folder that does not exist"),
    ],
)
def test_a_server_without_a_database_says_only_that(host: ForkHost, url: str, told: str) -> None:
    """One line and exit code 1; that it serves is said when it does."""
    ended = host.run("serve", env=os.environ | {"ONEFOLD_DATABASE_URL": url, "ONEFOLD_PORT": "0"})

    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.startswith(b"onefold: ")
    assert told in ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1
