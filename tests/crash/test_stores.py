"""Every death on the real stores: a relay and a consumer on databases, a guard on Valkey."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select
from sqlalchemy.schema import CreateTable
from tests.integration.engine.test_consumer import surroundings
from tests.integration.engine.test_relay import Broker
from tests.support_valkey import Valkey

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.relay import Relay
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Lease
from onefold.ports.tables import metadata
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Reaper, deadly_statements

effects = Table(
    "death_effects",
    MetaData(),
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("number", Integer, nullable=False),
)
Fresh = Callable[[], Awaitable[Database]]


@pytest.fixture
async def fresh(database_url: str, tmp_path: Path) -> AsyncIterator[Fresh]:
    """Gives the same store again, empty: a copied file, or a database without rows."""
    opened: list[Database] = []
    numbers = count()

    async def sqlite() -> Database:
        file = tmp_path / f"{next(numbers)}.db"
        shutil.copy(database_url.removeprefix("sqlite:///"), file)
        database = Database(f"sqlite:///{file}")
        async with database.writer.begin() as connection:
            await connection.execute(CreateTable(effects))
        return database

    async def postgres() -> Database:
        if not opened:
            opened.append(Database(database_url))
            async with opened[0].writer.begin() as connection:
                await connection.execute(CreateTable(effects))
        async with opened[0].writer.begin() as connection:
            for table in (effects, *(metadata.tables[name] for name in _USED)):
                await connection.execute(delete(table))
        return opened[0]

    yield sqlite if database_url.startswith("sqlite") else postgres
    for database in opened:
        await database.aclose()


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
        around = surroundings(clock)
        relay = Relay(outbox, reaper.mortal(broker, "broker"), owner="r", around=around)
        with deadly_statements(database.writer, reaper):
            while await relay.step():
                pass

    async def sent() -> list[Effect]:
        return [Effect(n, "ab"[n % 2]) for n in broker.numbers()]

    async def waiting() -> list[str]:
        return [event.id for event in await SqlOutbox(uow).unsent(limit=9)]

    return Scenario(
        run=run,
        expected=[Effect(n, "ab"[n % 2]) for n in range(number)],
        effects=sent,
        repeats=True,
        claims=waiting,
        expire=lambda: clock.advance(timedelta(minutes=5)),
        close=database.aclose if database.writer.url.get_backend_name() == "sqlite" else _keep,
    )


async def _keep() -> None:
    """The next world uses the same connections."""


@pytest.mark.timeout(60)
async def test_no_death_of_a_relay_on_a_database_loses_an_event(fresh: Fresh) -> None:
    """Dying in calls, statements, commits and between acknowledgements only ever repeats."""
    found = await explore(partial(relay_scenario, fresh, 3))

    found.verify()
    assert {"sql.commit#1:after", "broker.ack#1:after", "outbox.mark#1:before:stalled"} <= set(
        found.deaths
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
            around=surroundings(clock, seed=next(processes)),
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
        close=database.aclose if database.writer.url.get_backend_name() == "sqlite" else _keep,
    )


async def _effect(event: Event, tx: HandlerTransaction) -> None:
    await tx.execute(insert(effects).values(number=event.data["n"]))


@pytest.mark.timeout(60)
async def test_no_death_of_a_consumer_on_a_database_loses_or_doubles(fresh: Fresh) -> None:
    """Also when a commit's answer is lost and the process lives."""
    found = await explore(partial(consumer_scenario, fresh, 3))

    found.verify()
    assert {"sql.commit#2:before", "sql.commit#2:after", "transaction#1.commit:unknown"} <= set(
        found.deaths
    )


_LEASE = timedelta(seconds=30)


@asynccontextmanager
async def _guard(valkey: Valkey) -> AsyncIterator[Callable[[int], ValkeyGuard]]:
    server = connect(valkey.url)
    try:
        yield lambda world: ValkeyGuard(server, prefix=f"{valkey.prefix}-{world}")
    finally:
        await server.aclose()


async def test_no_death_of_a_guarded_handler_on_valkey_loses_an_event(valkey: Valkey) -> None:
    """It may be applied again, never by a worker that lost its lease; every claim ends."""
    worlds = count()
    async with _guard(valkey) as guard_of:

        def make() -> Scenario:
            guard, clock = guard_of(next(worlds)), ManualClock()
            applied: list[Effect] = []
            claims = [Claim(ClaimKey("c", "", f"e{n}"), bytes(32)) for n in range(2)]
            processes = count()

            async def run(reaper: Reaper) -> None:
                mine, owner = reaper.mortal(guard, "guard"), f"p{next(processes)}"
                for claim in claims:
                    (verdict,) = await mine.claim(
                        [claim], owner=owner, now=clock.now(), lease=_LEASE
                    )
                    if isinstance(verdict, Lease):
                        applied.append(Effect(claim.key.event_id))
                        confirmation = Confirmation(verdict)
                        await mine.confirm([confirmation], now=clock.now(), keep=_LEASE * 100)

            async def open_claims() -> list[str]:
                verdicts = await guard.claim(claims, owner="o", now=clock.now(), lease=_LEASE)
                return [v.key.event_id for v in verdicts if isinstance(v, Lease | Busy)]

            async def happened() -> list[Effect]:
                return applied

            return Scenario(
                run=run,
                expected=[Effect("e0"), Effect("e1")],
                effects=happened,
                repeats=True,
                claims=open_claims,
                expire=lambda: clock.advance(_LEASE * 2),
            )

        found = await explore(make, deaths=2)

    found.verify()
    assert "guard.claim#1:after + guard.claim#2:after" in found.deaths
