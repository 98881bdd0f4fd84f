"""PostgreSQL: many writers; rows go in as arrays, one statement whatever their number."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Table
from sqlalchemy.dialects.postgresql import JSONB, asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from onefold.adapters.sql.json import dump_json, load_json
from onefold.ports.features import Features

FEATURES = Features(name="postgresql", sql=True, parallel_writers=True, survives_process=True)

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_POOL_SIZE = 10


def engines(url: URL, *, wait_s: float) -> tuple[AsyncEngine, AsyncEngine]:
    """One pool serves both: PostgreSQL's writers do not wait for each other."""
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said by the unit of work
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=wait_s,
        connect_args={
            "server_settings": {
                "application_name": "onefold",
                "lock_timeout": str(int(wait_s * 1000)),
            }
        },
        json_serializer=dump_json,
        json_deserializer=load_json,
        hide_parameters=True,
    )
    return engine, engine


_DIALECT = asyncpg.dialect(  # type: ignore[no-untyped-call]
    json_serializer=dump_json, json_deserializer=load_json
)


@lru_cache(maxsize=64)
def _insert_sql(table: Table, columns: tuple[str, ...], key: tuple[str, ...], *, sort: bool) -> str:
    types = [table.c[name].type.dialect_impl(_DIALECT) for name in columns]
    casts = [t.compile(_DIALECT) for t in types]
    arrays = ", ".join(
        f"${n}::text[]" if cast == "JSONB" else f"${n}::{cast}[]"
        for n, cast in enumerate(casts, start=1)
    )
    picked = ", ".join(
        f"{name}::jsonb" if cast == "JSONB" else name
        for name, cast in zip(columns, casts, strict=True)
    )
    decides = ", ".join(key)
    order = f"ORDER BY {decides} " if sort else ""
    names = ", ".join(columns)
    return (
        f"INSERT INTO {table.name} ({names}) "  # noqa: S608 (our own names)
        f"SELECT {picked} FROM unnest({arrays}) AS rows ({names}) "
        f"{order}ON CONFLICT ({decides}) DO NOTHING RETURNING {decides}"
    )


async def insert_new(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: tuple[str, ...],
    sort: bool = True,
) -> set[tuple[Any, ...]]:
    """`Transaction.insert_new`, in one statement: the rows travel as one array a column."""
    columns = tuple(rows[0])
    arrays = [_array(table, name, rows) for name in columns]
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 (a checked-out connection has its driver's)
    found = await driver.fetch(_insert_sql(table, columns, key, sort=sort), *arrays)
    return {tuple(record) for record in found}


def _array(table: Table, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    if isinstance(table.c[name].type.dialect_impl(_DIALECT), JSONB):
        return [None if row[name] is None else dump_json(row[name]) for row in rows]
    return [row[name] for row in rows]
