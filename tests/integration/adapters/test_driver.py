"""What is said to the driver itself keeps every promise of what SQLAlchemy says."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    insert,
    select,
    text,
)

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import ConstraintViolated, StoreUnavailable
from onefold.ports.inserts import plain_insert
from onefold.ports.tables import Instant, Json, rows_of
from onefold.ports.unit_of_work import Transaction

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
kinds = Table(
    "test kinds",  # its name wants quotes
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("big", BigInteger),
    Column("small", SmallInteger),
    Column("flag", Boolean),
    Column("order", String(5)),  # and so does this one
    Column("words", Text),
    Column("raw", LargeBinary),
    Column("at", Instant),
    Column("said", Json),
)


def row(number: int, **changed: Any) -> dict[str, Any]:
    """A value for every column."""
    return {
        "id": number,
        "big": 2**60 + number,
        "small": -number,
        "flag": number % 2 == 0,
        "order": "ä\u20ac'\"",
        "words": "x" * 1000,
        "raw": b"\0\xff",
        "at": NOW + timedelta(microseconds=number),
        "said": {"a": [1, 2.5, None, "ü"], "n": number},
    } | changed


NULLS = {name: None for name in row(0) if name != "id"}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, wait_s=5)
    async with opened.writer.begin() as connection:
        await connection.run_sync(kinds.create)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("count", [1, 3])
async def test_plain_rows_are_stored_as_sqlalchemy_stores_them(
    database: Database, count: int
) -> None:
    """Every plain type, NULLs too, read back equal to what went the long way."""
    uow = SqlUnitOfWork(database)
    short = [row(n) for n in range(count)]
    long = [row(n) for n in range(100, 100 + count)]
    async with uow.begin() as tx:
        assert (await tx.execute(insert(kinds), short)).rowcount == count
        await tx.execute(insert(kinds).values(id=50, **NULLS))
        for each in [*long, {"id": 150} | NULLS]:
            statement = insert(kinds).values(each).returning(kinds.c.id)
            assert plain_insert(statement, None) is None
            await tx.execute(statement)
        found = rows_of(await tx.execute(select(kinds).order_by(kinds.c.id)))

    assert found == [*short, {"id": 50} | NULLS, *long, {"id": 150} | NULLS]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "wrong",
    [{"id": 9}, {"at": datetime(2026, 1, 1)}, {"big": 2**70}],  # noqa: DTZ001 (the naive one)
    ids=["a key that is there", "a naive instant", "too large"],
)
async def test_a_refused_row_leaves_nothing(
    database: Database, count: int, wrong: dict[str, Any]
) -> None:
    """One row or many: a broken rule is told as such, and nothing is stored."""
    uow = SqlUnitOfWork(database)
    async with uow.begin() as tx:
        await tx.execute(insert(kinds), [row(9)])

    async def work() -> None:
        async with uow.begin() as tx:
            await tx.execute(insert(kinds), [*(row(n) for n in range(1, count)), row(0) | wrong])

    with pytest.raises(ConstraintViolated):
        await work()

    async with uow.read() as tx:
        assert list((await tx.execute(select(kinds.c.id))).scalars()) == [9]


@pytest.mark.parametrize("way", ["plain", "alchemy", "claim"])
async def test_a_lost_connection_is_not_replaced_inside_a_transaction(
    database: Database, way: str
) -> None:
    """SQLAlchemy would connect anew, and what it writes then would stand without the rest."""
    uow = SqlUnitOfWork(database)

    async def write(tx: Transaction) -> object:
        if way == "plain":
            return await tx.execute(insert(kinds), [row(2)])
        if way == "claim":
            return await tx.claim("c", "e", now=NOW)
        return await tx.execute(insert(kinds).values(id=2).returning(kinds.c.id))

    async def work() -> None:
        async with uow.begin() as tx:
            await tx.execute(insert(kinds), [row(1)])
            (lent,) = database._lent
            await asyncio.create_task(lent.invalidate())
            await write(tx)

    with pytest.raises(StoreUnavailable):
        await work()

    async with uow.begin() as tx:
        assert (await tx.execute(select(kinds.c.id))).all() == []
        assert await tx.claim("c", "e", now=NOW)


async def test_a_failed_statement_of_the_driver_poisons_no_later_transaction(
    database: Database,
) -> None:
    """The connection goes back without a transaction on it, whatever failed."""
    uow = SqlUnitOfWork(database)

    async def work(number: int) -> None:
        async with uow.begin() as tx:
            await tx.execute(insert(kinds), [row(number)])
            await tx.execute(insert(kinds), [row(number)])

    for number in range(15):  # more than the pool has connections
        with pytest.raises(ConstraintViolated):
            await work(number)
    async with uow.begin() as tx:
        await tx.execute(text("SELECT 1"))
        assert (await tx.execute(select(kinds.c.id))).all() == []
