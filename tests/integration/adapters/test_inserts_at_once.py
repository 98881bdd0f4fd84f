"""The same new rows, inserted by many connections at once."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Table, UniqueConstraint, Uuid

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import ConstraintViolated
from onefold.ports.unit_of_work import Transaction, in_transaction

plays = Table(
    "test_plays",
    MetaData(),
    Column("school_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("student_id", Uuid, nullable=False),
    Column("seat", Integer, unique=True),
    # What a foreign key of both points at: never broken where the primary key is not.
    UniqueConstraint("school_id", "id", "student_id", name="uq_test_plays_student"),
    # An id that leads to its school: broken without the primary key, but not by the same row.
    Index("ix_test_plays_id", "id", unique=True),
)


@pytest.fixture
async def uow(database_url: str) -> AsyncIterator[SqlUnitOfWork]:
    database = Database(database_url, wait_s=20)
    async with database.writer.begin() as connection:
        await connection.run_sync(plays.create)
    yield SqlUnitOfWork(database)
    async with database.writer.begin() as connection:
        await connection.run_sync(plays.drop)
    await database.aclose()


async def _made(rows: Sequence[Mapping[str, UUID]], tx: Transaction) -> int:
    return len(await tx.insert_new(plays, rows))


async def test_rows_made_at_once_are_new_once(uow: SqlUnitOfWork) -> None:
    """Eight who make the same sessions at once are told apart, and none of them fails."""
    rounds = 800 if uow.features.parallel_writers else 5  # unmended, two of three met it in 200
    for _ in range(rounds):
        keys = [uuid4() for _ in range(10)]
        rows = [dict.fromkeys(("school_id", "id", "student_id"), key) for key in keys]
        told = await asyncio.gather(*(in_transaction(uow, partial(_made, rows)) for _ in range(8)))

        assert sum(told) == 10


async def test_a_constraint_of_its_own_is_told(uow: SqlUnitOfWork) -> None:
    """A seat that is taken is no repetition: it is the caller's to hear of."""
    first, other = (
        {"school_id": uuid4(), "id": uuid4(), "student_id": uuid4(), "seat": 1} for _ in range(2)
    )
    async with uow.begin() as tx:
        await tx.insert_new(plays, [first])

    with pytest.raises(ConstraintViolated):
        async with uow.begin() as tx:
            await tx.insert_new(plays, [other])
