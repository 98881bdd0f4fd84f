"""Our relay and our consumer over real stores, as scenarios for the crash explorer."""

from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select
from sqlalchemy.schema import CreateTable
from tests.integration.engine.test_consumer import surroundings
from tests.integration.engine.test_relay import Broker

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.relay import Relay
from onefold.ports.tables import metadata
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Reaper, deadly_statements
from onefold.testing.sql import threadless, unsynced

effects = Table(
    "death_effects",
    MetaData(),
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("number", Integer, nullable=False),
)


class Fresh:
    """Gives the same migrated database again and again, each time without rows."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._made = False
        self._ends = ExitStack()
        for engine in (self._database.writer, self._database.reader):
            self._ends.enter_context(unsynced(engine))
            self._ends.enter_context(threadless(engine))

    async def __call__(self) -> Database:
        async with self._database.writer.begin() as connection:
            if not self._made:
                await connection.execute(CreateTable(effects))
                self._made = True
            for table in (effects, *(metadata.tables[name] for name in _USED)):
                await connection.execute(delete(table))
        return self._database

    async def aclose(self) -> None:
        """Let go of it."""
        self._ends.close()
        await self._database.aclose()


_USED = [f"onefold_{name}" for name in ("inbox", "outbox", "relay_shards", "spans", "starts")]


def _events(clock: ManualClock, number: int) -> list[Event]:
    facts: dict[str, Any] = {"source": "s", "now": clock.now()}
    return [
        Event.new("t", {"n": n}, key="ab"[n % 2], random=Random(n).randbytes, **facts)
        for n in range(number)
    ]


async def relay_scenario(fresh: Fresh, number: int) -> Scenario:
    """A relay over an outbox of that many events of two keys."""
    database, clock, broker = await fresh(), ManualClock(), Broker()
    uow = SqlUnitOfWork(database)
    events = _events(clock, number)
    async with uow.begin() as tx:
        await tx.publish(*events, now=clock.now())

    async def run(reaper: Reaper) -> None:
        outbox = reaper.mortal(SqlOutbox(uow), "outbox")
        env = surroundings(clock)
        relay = Relay(outbox, reaper.mortal(broker, "broker"), owner="r", env=env)
        with deadly_statements(database.writer, reaper):
            while await relay.step():
                pass

    async def sent() -> list[Effect]:
        return [Effect(n, "ab"[n % 2]) for n in broker.numbers()]

    async def waiting() -> list[str]:
        return [one.id for one in await SqlOutbox(uow).unsent(limit=9)]

    return Scenario(
        run=run,
        expected=[Effect(n, "ab"[n % 2]) for n in range(number)],
        effects=sent,
        repeats=True,
        claims=waiting,
        expire=lambda: clock.advance(timedelta(minutes=5)),
    )


async def consumer_scenario(fresh: Fresh, number: int) -> Scenario:
    """A consumer whose effect is a row for each of that many events, one of them sent twice."""
    database, clock = await fresh(), ManualClock()
    uow, transport = SqlUnitOfWork(database), MemoryTransport(partitions=2)
    events = _events(clock, number)
    await transport.publish(
        [
            Outgoing(topic="t", key=(e.key or "").encode(), value=encode_native(e))
            for e in [*events, events[0]]
        ]
    )
    processes = count(1)

    async def run(reaper: Reaper) -> None:
        subscription = await transport.subscribe("c", ["t"])
        consumer = Consumer(
            ConsumerSpec(name="c", topics=("t",), handler=_effect, max_batch=2),
            subscription=reaper.mortal(subscription, "subscription"),
            uow=reaper.mortal(uow, "uow"),
            ledger=reaper.mortal(SqlLedger(uow), "ledger"),
            env=surroundings(clock, seed=next(processes)),
            poll_s=0,
        )
        try:
            with deadly_statements(database.writer, reaper):
                await consumer.drain()
        finally:
            await subscription.kill()

    async def happened() -> list[Effect]:
        async with uow.read() as tx:
            found = await tx.execute(select(effects.c.number).order_by(effects.c.position))
            return [Effect(n, "ab"[n % 2]) for (n,) in found]

    return Scenario(
        run=run,
        expected=[Effect(n, "ab"[n % 2]) for n in range(number)],
        effects=happened,
    )


async def _effect(placed: Event, tx: HandlerTransaction) -> None:
    await tx.execute(insert(effects).values(number=placed.data["n"]))
