"""Inserts that travel together change nothing but their number of statements."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
)
from tests.integration.engine.test_consumer import event, send, surroundings

from onefold.adapters.memory.transport import MemoryTransport
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.deferred import DeferredInserts
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.errors import ConstraintViolated
from onefold.testing.clock import ManualClock

tables = MetaData()
orders = Table("test_orders", tables, Column("number", Integer, primary_key=True))
lines = Table(
    "test_lines",
    tables,
    Column("number", Integer, ForeignKey("test_orders.number")),
    Column("what", String(8)),
    Column("made", Integer, default=lambda: 7),
)


class Recording:
    """A transaction that writes down what it is asked."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.ran.append((str(statement).split("(", maxsplit=1)[0].strip(), len(parameters or [])))


async def test_neighbours_travel_together_and_statements_keep_their_order() -> None:
    """Rows of one table are one statement, written before whatever comes after them."""
    tx = Recording()
    deferred = DeferredInserts(tx, hold=True)  # type: ignore[arg-type]
    await deferred.execute(insert(orders).values(number=1))
    await deferred.execute(insert(orders), [{"number": 2}, {"number": 3}])
    await deferred.execute(insert(lines), [{"number": 1, "what": "a", "made": 1}])
    await deferred.execute(insert(orders).values(number=func.abs(-4)))
    await deferred.execute(insert(orders).values(number=5))
    await deferred.write()

    written = ["INSERT INTO test_orders", "INSERT INTO test_lines"]
    assert tx.ran == [(written[0], 3), (written[1], 1), (written[0], 0), (written[0], 1)]


async def test_a_row_is_as_it_was_when_it_was_written() -> None:
    """A handler that goes on using its dictionary does not change what it wrote."""
    seen: list[Mapping[str, Any]] = []

    class Keeping(Recording):
        async def execute(self, statement: Any, parameters: Any = None) -> None:
            seen.extend(parameters)

    deferred = DeferredInserts(Keeping(), hold=True)  # type: ignore[arg-type]
    row = {"number": 1}
    await deferred.execute(insert(orders), [row])
    row["number"] = 2
    await deferred.write()

    assert seen == [{"number": 1}]


@pytest.fixture
async def uow(database_url: str) -> AsyncIterator[SqlUnitOfWork]:
    database = Database(database_url)
    async with database.writer.begin() as connection:
        await connection.run_sync(tables.create_all)
    yield SqlUnitOfWork(database)
    await database.aclose()


async def run(uow: SqlUnitOfWork, clock: ManualClock, handler: Any, count: int) -> Consumer:
    """A consumer that was sent so many events, numbered from 1, and handled them."""
    transport = MemoryTransport(partitions=1)
    subscription = await transport.subscribe("c", ["orders.placed"])
    await send(transport, *(event(clock, n) for n in range(1, count + 1)))
    consumer = Consumer(
        ConsumerSpec(name="c", topics=("orders.placed",), handler=handler),
        subscription=subscription,
        uow=uow,
        ledger=SqlLedger(uow),
        env=surroundings(clock),
        poll_s=0,
    )
    await consumer.drain()
    await transport.aclose()
    return consumer


async def numbers(uow: SqlUnitOfWork) -> list[int]:
    async with uow.read() as tx:
        return list((await tx.execute(select(orders.c.number).order_by("number"))).scalars())


async def test_a_handler_reads_what_it_and_its_neighbours_wrote(
    uow: SqlUnitOfWork, clock: ManualClock
) -> None:
    """A held back row is there for every statement after it."""
    counted = []

    async def count(event: Event, tx: HandlerTransaction) -> None:
        assert (await tx.execute(insert(orders).values(number=event.data["n"]))).rowcount == 1
        counted.append((await tx.execute(select(func.count()).select_from(orders))).scalar_one())

    await run(uow, clock, count, 3)

    assert counted == [1, 2, 3]


async def test_a_refused_row_is_told_to_the_handler_that_wrote_it(
    uow: SqlUnitOfWork, clock: ManualClock
) -> None:
    """Of ten events one breaks a rule: its own handler decides, the other nine are applied."""
    blamed = []

    async def place(event: Event, tx: HandlerTransaction) -> None:
        number = 1 if event.data["n"] == 7 else event.data["n"]
        try:
            await tx.execute(insert(orders).values(number=number))
        except ConstraintViolated as error:
            blamed.append(event.data["n"])
            raise Park("taken") from error

    consumer = await run(uow, clock, place, 10)

    assert blamed == [7]
    assert [n for n in range(1, 11) if n != 7] == await numbers(uow)
    assert (
        (await SqlLedger(uow).letters(consumer="c"))[0]["reason"],
        consumer.counts.parked,
    ) == ("taken", 1)


async def test_rows_of_two_tables_keep_their_order(uow: SqlUnitOfWork, clock: ManualClock) -> None:
    """A row and another that refers to it, with a default of Python's, from every event."""

    async def place(event: Event, tx: HandlerTransaction) -> None:
        await tx.execute(insert(orders).values(number=event.data["n"]))
        await tx.execute(insert(lines), [{"number": event.data["n"], "what": "a"}])

    consumer = await run(uow, clock, place, 5)

    async with uow.read() as tx:
        made = list((await tx.execute(select(lines.c.made))).scalars())
    assert (consumer.counts.applied, made) == (5, [7] * 5)
