"""Updates of many rows by their keys go the short way, and change what the long way changes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    Column,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    and_,
    bindparam,
    select,
    update,
)

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.updates import plain_update
from onefold.errors import ConstraintViolated, StoreFailed
from onefold.ports.tables import Instant, Json, rows_of
from onefold_server.domains.trades.tables import Exact

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
changed = Table(
    "test changed",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("order", String(5), nullable=False),
    Column("at", Instant),
    Column("share", Float),
    Column("sum", Exact),
    Column("raw", LargeBinary),
    Column("said", Json),
    Column("took", Interval),
)
BY_KEY = update(changed).where(
    changed.c.id == bindparam("_id"), changed.c.part == bindparam("_part")
)


def values(n: int) -> dict[str, Any]:
    """A value for every column that can go the short way."""
    return {
        "order": "ä'\"" + str(n),
        "at": NOW + timedelta(microseconds=n),
        "share": n / 3,
        "sum": Exact().process_result_value(f"{n}.10", None),  # type: ignore[arg-type]
        "raw": bytes([n]),
        "said": {"n": [n, None, "ü"]},
    }


def asked(n: int, **more: Any) -> dict[str, Any]:
    """What an update says of row *n*."""
    return {"_id": UUID(int=n), "_part": n % 2} | values(n) | more


@pytest.fixture
async def uow(database_url: str) -> AsyncIterator[SqlUnitOfWork]:
    database = Database(database_url, wait_s=5)
    async with database.writer.begin() as connection:
        await connection.run_sync(changed.create)
    made = SqlUnitOfWork(database)
    async with made.begin() as tx:
        some = [{"id": UUID(int=n), "part": n % 2, "order": "old"} for n in range(6)]
        await tx.insert_new(changed, some)
    yield made
    await made.aclose()


async def test_many_rows_change_as_they_would_one_by_one(uow: SqlUnitOfWork) -> None:
    """Every plain type and NULL; rows that are not named, or not there, change nothing."""
    nothing = dict.fromkeys(("at", "share", "sum", "raw", "said"))
    many = [asked(1), asked(2), asked(3, **nothing), asked(77)]
    assert plain_update(BY_KEY, many) is not None
    async with uow.begin() as tx:
        assert (await tx.execute(BY_KEY, many)).rowcount == 3
        for one in (asked(4), asked(5, **nothing)):
            assert plain_update(BY_KEY, [one]) is None
            await tx.execute(BY_KEY, [one])
        found = {row["id"].int: row for row in rows_of(await tx.execute(select(changed)))}

    for n in (1, 2, 4):
        assert found[n] == {"id": UUID(int=n), "part": n % 2, "took": None} | values(n)
    for n in (3, 5):
        assert found[n] == {
            "id": UUID(int=n), "part": 1, "took": None, "order": values(n)["order"], **nothing
        }  # fmt: skip
    assert found[0]["order"] == "old"


@pytest.mark.parametrize(
    "wrong",
    [{"order": None}, {"at": datetime(2026, 1, 1)}],  # noqa: DTZ001 (the naive one)
    ids=["null", "naive"],
)
async def test_a_refused_row_changes_nothing(uow: SqlUnitOfWork, wrong: dict[str, Any]) -> None:
    """It is told as such, and the rows beside it stay as they were."""
    with pytest.raises((ConstraintViolated, StoreFailed, ValueError)):
        async with uow.begin() as tx:
            await tx.execute(BY_KEY, [asked(1), asked(2, **wrong)])

    async with uow.read() as tx:
        found = rows_of(await tx.execute(select(changed)))
    assert {row["order"] for row in found} == {"old"}


async def test_a_text_too_long_is_refused_and_never_cut(uow: SqlUnitOfWork) -> None:
    """Where the database holds the length at all."""
    if uow.features.name != "postgresql":
        return
    with pytest.raises((ConstraintViolated, StoreFailed)):
        async with uow.begin() as tx:
            await tx.execute(BY_KEY, [asked(1), asked(2, order="123456")])


def test_what_is_more_than_a_plain_update_goes_the_long_way() -> None:
    """One row, other conditions, values of its own, types the driver does not take."""
    two = [asked(1), asked(2)]
    key = changed.c.id == bindparam("_id")

    assert plain_update(BY_KEY, two) is not None
    assert plain_update(update(changed), two) is None
    assert plain_update(BY_KEY.where(changed.c.order == "x"), two) is None
    later = changed.c.part > bindparam("_part")
    assert plain_update(update(changed).where(later, key), two) is None
    assert plain_update(update(changed).where(and_(key, key) | key), two) is None
    assert plain_update(BY_KEY.values(order="x"), two) is None
    assert plain_update(BY_KEY.returning(changed.c.id), two) is None
    assert plain_update(BY_KEY, [asked(1), asked(1)]) is None
    assert plain_update(BY_KEY, [asked(1), asked(2, took=timedelta(1))]) is None
    assert plain_update(BY_KEY, [asked(n, took=timedelta(1)) for n in (1, 2)]) is None
    assert plain_update(BY_KEY, [asked(n, unknown=1) for n in (1, 2)]) is None
    assert plain_update(BY_KEY, None) is None
