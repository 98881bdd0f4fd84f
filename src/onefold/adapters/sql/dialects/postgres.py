"""PostgreSQL: many writers; rows go in as arrays, one statement whatever their number."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Index, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB, asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeDecorator

from onefold.adapters.sql.dialects.deadlines_postgres import ARM, armed
from onefold.adapters.sql.driver import driver_of
from onefold.adapters.sql.json import dump_json, load_json
from onefold.adapters.sql.updates import PlainUpdate
from onefold.ports.deadlines import Deadline
from onefold.ports.features import Features
from onefold.ports.unit_of_work import InboxClaim

__all__ = [
    "BEGIN",
    "BEGIN_READ",
    "BULK_UPDATES",
    "CANCELLED_CONNECT_CLOSES",
    "FEATURES",
    "RELEASES_WITHOUT_IO",
    "arm_many",
    "engines",
    "insert_new",
    "insert_rows",
    "say",
    "update_rows",
]

FEATURES = Features(name="postgresql", sql=True, parallel_writers=True, survives_process=True)

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
RELEASES_WITHOUT_IO = True  # nothing is sent: its adapter sees no transaction of its own to end
CANCELLED_CONNECT_CLOSES = True  # a cancelled attempt closes its socket
BULK_UPDATES = True  # `update_rows`
BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_POOL_SIZE = 10
_CONNECT_S = 10.0  # how long a new connection may take before the server counts as away


def engines(url: URL, *, wait_s: float) -> tuple[AsyncEngine, AsyncEngine]:
    """One pool serves both: PostgreSQL's writers do not wait for each other."""
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said by the unit of work
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=wait_s,
        connect_args={
            "timeout": _CONNECT_S,
            "server_settings": {
                "application_name": "onefold",
                "lock_timeout": str(max(1, int(wait_s * 1000))),  # 0 would wait for ever
            },
        },
        json_serializer=dump_json,
        json_deserializer=load_json,
        hide_parameters=True,
    )
    return engine, engine


async def say(driver: Any, words: str) -> None:
    """Run a statement without values and without an answer. One round trip."""
    await driver.execute(words)


_DIALECT = asyncpg.dialect(  # type: ignore[no-untyped-call]
    json_serializer=dump_json, json_deserializer=load_json
)


@lru_cache(maxsize=256)
def _rows_sql(table: Table, columns: tuple[str, ...], *, order: str = "") -> str:
    """An INSERT whose rows travel as one array a column."""
    quote = _DIALECT.identifier_preparer.quote
    kinds = [_kind(table, name) for name in columns]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(kinds, start=1))
    picked = ", ".join(
        f"{quote(name)}::jsonb" if _is_json(table, name) else quote(name) for name in columns
    )
    names = ", ".join(map(quote, columns))
    return (
        f"INSERT INTO {quote(table.name)} ({names}) "  # noqa: S608 (our own names)
        f"SELECT {picked} FROM unnest({arrays}) AS rows ({names}){order}"
    )


@lru_cache(maxsize=256)
def _row_sql(table: Table, columns: tuple[str, ...]) -> str:
    """An INSERT of one row: cheaper than arrays of one."""
    quote = _DIALECT.identifier_preparer.quote
    binds = ", ".join(
        f"${n}::text::jsonb" if _is_json(table, name) else f"${n}::{_kind(table, name)}"
        for n, name in enumerate(columns, start=1)
    )
    names = ", ".join(map(quote, columns))
    return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({binds})"  # noqa: S608 (our own)


@lru_cache(maxsize=64)
def _insert_sql(
    table: Table, columns: tuple[str, ...], key: tuple[str, ...], *, sort: bool, waits_at: str
) -> str:
    decides = ", ".join(map(_DIALECT.identifier_preparer.quote, key))
    order = f" ORDER BY {decides}" if sort else ""
    rows = _rows_sql(table, columns, order=order)
    target = f"({decides}) " if waits_at == "key" else ""
    return f"{rows} ON CONFLICT {target}DO NOTHING RETURNING {decides}"


@lru_cache(maxsize=1024)
def _is_json(table: Table, name: str) -> bool:
    return isinstance(table.c[name].type.dialect_impl(_DIALECT), JSONB)


def _kind(table: Table, name: str) -> str:
    if _is_json(table, name):
        return "text"
    # Without its length: a cast to VARCHAR(64) cuts what is longer in silence, where the
    # INSERT refuses it (test_a_text_too_long_is_refused_and_never_cut).
    return table.c[name].type.dialect_impl(_DIALECT).compile(_DIALECT).partition("(")[0]


async def insert_new(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: tuple[str, ...],
    sort: bool = True,
) -> set[tuple[Any, ...]]:
    """
    `Transaction.insert_new`: the rows travel as one array a column.

    ON CONFLICT waits for a concurrent insert at the indexes it names. The same row of another
    transaction that is met at an index beside them is a violation, though it repeats the key.
    So the first statement names none, and waits at all of them. What it left out where another
    constraint can be broken alone is asked for again by the key: by then the other's row is
    there, and what is refused is refused for itself.
    """
    columns = tuple(rows[0])
    others = _others(table, columns, key)
    waits_at = "all" if others else "key"
    new = await _inserted(connection, table, rows, key=key, sort=sort, waits_at=waits_at)
    if len(new) == len(rows) or all(set(key) <= other for other in others):
        return new
    rest = [row for row in rows if tuple(row[name] for name in key) not in new]
    if not rest:
        return new
    return new | await _inserted(connection, table, rest, key=key, sort=sort, waits_at="key")


async def _inserted(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: tuple[str, ...],
    sort: bool,
    waits_at: str,
) -> set[tuple[Any, ...]]:
    columns = tuple(rows[0])
    arrays = [_array(table, name, rows) for name in columns]
    statement = _insert_sql(table, columns, key, sort=sort, waits_at=waits_at)
    return {tuple(record) for record in await driver_of(connection).fetch(statement, *arrays)}


@lru_cache(maxsize=256)
def _others(
    table: Table, columns: tuple[str, ...], key: tuple[str, ...]
) -> frozenset[frozenset[str]]:
    """What else is unique in *table* and touched by *columns*, as sets of columns."""
    unique = [
        one.columns
        for one in (*table.constraints, *table.indexes)
        if isinstance(one, UniqueConstraint | PrimaryKeyConstraint)
        or (isinstance(one, Index) and one.unique)
    ]
    sets = (frozenset(column.name for column in some) for some in unique)
    return frozenset(some for some in sets if some != set(key) and some & set(columns))


# Sorted, so that two overlapping calls cannot deadlock. What is the same for all goes once,
# in and out: nearly always all are kept for one time, and all are new.
_CLAIM = """
WITH new AS (
  INSERT INTO onefold_inbox (consumer, event_id, fingerprint, claimed_at, forget_at)
  SELECT $1, event_id, fingerprint, $5::timestamptz, $5::timestamptz + keep
  FROM {rows}
  ORDER BY event_id
  ON CONFLICT (consumer, event_id) DO NOTHING RETURNING event_id
)
SELECT count(*), CASE WHEN count(*) < cardinality($2) THEN array_agg(event_id) END FROM new
"""
_KEPT_ALIKE = _CLAIM.format(
    rows="unnest($2::text[], $3::bytea[]) AS rows (event_id, fingerprint), "
    "(SELECT $4::interval AS keep) AS kept"
)
_KEPT_EACH = _CLAIM.format(
    rows="unnest($2::text[], $3::bytea[], $4::interval[]) AS rows (event_id, fingerprint, keep)"
)

# What an event that stands alone needs: no array, no sort, no count.
_CLAIM_ONE = """
INSERT INTO onefold_inbox (consumer, event_id, fingerprint, claimed_at, forget_at)
VALUES ($1, $2, $3, $5::timestamptz, $5::timestamptz + $4::interval)
ON CONFLICT (consumer, event_id) DO NOTHING RETURNING true
"""


async def claim_new(
    connection: AsyncConnection, consumer: str, claims: Sequence[InboxClaim], now: datetime
) -> set[str]:
    """Insert these claims, all of other ids, into the inbox; which ids were not there."""
    if not claims:
        return set()
    if len(claims) == 1:
        ((id_, print_, keep),) = claims
        said = await driver_of(connection).fetch(_CLAIM_ONE, consumer, id_, print_, keep, now)
        return {id_} if said else set()
    ids, prints, keeps = map(list, zip(*claims, strict=True))
    alike = keeps.count(keeps[0]) == len(keeps)
    statement = _KEPT_ALIKE if alike else _KEPT_EACH
    given = consumer, ids, prints, keeps[0] if alike else keeps, now
    new, which = await driver_of(connection).fetchrow(statement, *given)
    return set(ids if new == len(ids) else which or ())


async def insert_rows(
    connection: AsyncConnection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Rows as they are, in one statement."""
    arrays = [_array(table, name, rows) for name in columns]
    driver = driver_of(connection)
    if len(rows) > 1:
        await driver.fetch(_rows_sql(table, columns), *arrays)
    else:
        await driver.fetch(_row_sql(table, columns), *(value for (value,) in arrays))


@lru_cache(maxsize=64)
def _update_sql(table: Table, keys: tuple[str, ...], columns: tuple[str, ...]) -> str:
    """An UPDATE whose rows travel as one array a column, keys first."""
    quote = _DIALECT.identifier_preparer.quote
    names = [f"key_{n}" for n in range(len(keys))] + [quote(name) for name in columns]
    arrays = ", ".join(
        f"${n}::{_kind(table, name)}[]" for n, name in enumerate((*keys, *columns), start=1)
    )
    put = ", ".join(
        f"{quote(name)} = rows.{quote(name)}{'::jsonb' if _is_json(table, name) else ''}"
        for name in columns
    )
    same = " AND ".join(f"t.{quote(name)} = rows.key_{n}" for n, name in enumerate(keys))
    return (
        f"UPDATE {quote(table.name)} AS t SET {put} "  # noqa: S608 (our own names)
        f"FROM unnest({arrays}) AS rows ({', '.join(names)}) WHERE {same}"
    )


async def update_rows(connection: AsyncConnection, plain: PlainUpdate) -> int:
    """
    Change rows, found by their keys, in one statement; how many there were.

    In the order that the plan takes: who must not deadlock has locked them before.
    """
    table, keys = plain.table, plain.keys
    arrays = [
        _array(table, column, [{column: row[name]} for row in plain.rows])
        for column, name in keys.items()
    ] + [_array(table, name, plain.rows) for name in plain.columns]
    sql = _update_sql(table, tuple(keys), plain.columns)
    told: str = await driver_of(connection).execute(sql, *arrays)
    return int(told.rpartition(" ")[2])


def _array(table: Table, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    values = [row[name] for row in rows]
    if _is_json(table, name):
        return [None if value is None else dump_json(value) for value in values]
    type_ = table.c[name].type
    if isinstance(type_, TypeDecorator):  # a naive instant would be taken for local time
        return [type_.process_bind_param(value, _DIALECT) for value in values]
    return values


async def arm_many(connection: AsyncConnection, deadlines: Sequence[Deadline]) -> None:
    """`Transaction.schedule_many`, all of other keys, in one statement."""
    await driver_of(connection).fetch(ARM, armed(deadlines))
