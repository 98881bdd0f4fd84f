"""SQLite: one writer at a time, waited for; many readers beside it."""

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Table, event
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from onefold.adapters.sql import schema
from onefold.adapters.sql.driver import driver_of
from onefold.adapters.sql.json import dump_json, load_json
from onefold.adapters.sql.schema import inbox
from onefold.errors import InvalidSetting, StoreUnavailable
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
]

FEATURES = Features(name="sqlite", sql=True, parallel_writers=False, survives_process=True)

BEGIN = "BEGIN IMMEDIATE"  # take the write lock first: a later upgrade could not wait for it
RELEASES_WITHOUT_IO = False  # a rollback goes through the driver's thread
BEGIN_READ = "BEGIN"
CANCELLED_CONNECT_CLOSES = False  # the driver's thread does, and tells the event loop
BULK_UPDATES = False  # an executemany goes nowhere

# At DEBUG the driver tells every parameter, and so people's data (test_e1_e6).
logging.getLogger("aiosqlite").setLevel(logging.INFO)

# SQLITE_MAX_VARIABLE_NUMBER's default since 3.32 (its manual, "Limits").
_MAX_VARIABLES = 32_766

_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # a commit survives a power cut, not only a crash
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
)


def engines(url: URL, *, wait_s: float) -> tuple[AsyncEngine, AsyncEngine]:
    """One connection that writes, and a few that read."""
    if url.database in {None, "", ":memory:"}:
        reason = "an in-memory SQLite database is not shared by connections; name a file"
        raise InvalidSetting("database_url", reason)
    return _engine(url, wait_s, size=1), _engine(url, wait_s, size=4, pragma="query_only = ON")


def _engine(url: URL, wait_s: float, *, size: int, pragma: str | None = None) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are said by the unit of work
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_s,
        connect_args={"timeout": wait_s},
        json_serializer=dump_json,
        json_deserializer=load_json,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def _can_open(*_: object) -> None:
        # A failed open inside aiosqlite leaves its thread telling an event loop that may be gone.
        file = url.database or ""
        try:
            sqlite3.connect(file).close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
                raise
            raise StoreUnavailable(str(error), _how_to_open(file)) from error

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        try:
            _use_wal(cursor)
            for statement in (*_PRAGMAS, *([f"PRAGMA {pragma}"] if pragma else [])):
                cursor.execute(statement)
        except sqlite3.Error:
            connection.close()  # nobody else will, and its thread would outlive the event loop
            raise
        cursor.close()

    return engine


def _how_to_open(file: str) -> str:
    path = Path(file.removeprefix("file:")).absolute()
    if path.is_dir():
        return f"{path} is a folder: name a file"
    if not path.parent.is_dir():
        return f"{path} is in a folder that does not exist: create it, or name another file"
    return f"{path}: let this process read and write it and its folder"


def _use_wal(cursor: Any, attempts: int = 20) -> None:
    """
    Let readers not wait for the writer: a property of the file, kept in it.

    Of several that open a new file at once, SQLite lets all but one fail without waiting
    (test_many_that_migrate_at_once_do_it_once); BEGIN IMMEDIATE waits for that one.
    """
    for left in reversed(range(attempts)):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not left:
                raise
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        else:
            return


async def say(driver: Any, words: str) -> None:
    """Run a statement without values and without an answer. One turn of the driver's thread."""
    await driver.execute_fetchall(words)


@lru_cache(maxsize=64)
def _insert_sql(table: Table, columns: tuple[str, ...], key: tuple[str, ...], count: int) -> str:
    quote = _DIALECT.identifier_preparer.quote
    names, decides = (", ".join(map(quote, some)) for some in (columns, key))
    row = "(" + ", ".join("?" * len(columns)) + ")"
    new = f" ON CONFLICT ({decides}) DO NOTHING RETURNING {decides}" if key else ""
    return (
        f"INSERT INTO {quote(table.name)} ({names}) "  # noqa: S608 (our own names)
        f"VALUES {', '.join([row] * count)}{new}"
    )


_DIALECT = sqlite_dialect.dialect(json_serializer=dump_json, json_deserializer=load_json)


async def insert_new(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: tuple[str, ...],
    sort: bool = True,
) -> set[tuple[Any, ...]]:
    """`Transaction.insert_new`, in as few statements as the limit on variables allows."""
    reads = [_read(table.c[name].type) for name in key]
    found = await _insert(connection, table, tuple(rows[0]), rows, key)
    return {
        tuple(read(v) if read else v for v, read in zip(row, reads, strict=True)) for row in found
    }


async def claim_new(
    connection: AsyncConnection, consumer: str, claims: Sequence[InboxClaim], now: datetime
) -> set[str]:
    """Insert these claims, all of other ids, into the inbox; which ids were not there."""
    rows = [
        {
            "consumer": consumer,
            "event_id": claim.event_id,
            "fingerprint": claim.fingerprint,
            "claimed_at": now,
            "forget_at": now + claim.keep,
        }
        for claim in claims
    ]
    if not rows:
        return set()
    new = await insert_new(connection, inbox, rows, key=("consumer", "event_id"))
    return {event_id for _, event_id in new}


async def insert_rows(
    connection: AsyncConnection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Rows as they are, in as few statements as the limit on variables allows."""
    await _insert(connection, table, columns, rows, ())


async def _insert(
    connection: AsyncConnection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
    key: tuple[str, ...],
) -> list[Any]:
    binds = [_bind(table.c[name].type) for name in columns]
    driver = driver_of(connection)
    found: list[Any] = []
    step = _MAX_VARIABLES // len(columns)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        values = [
            bind(row[name]) if bind else row[name]
            for row in chunk
            for name, bind in zip(columns, binds, strict=True)
        ]
        sql = _insert_sql(table, columns, key, len(chunk))
        found += await driver.execute_fetchall(sql, values)
    return found


@lru_cache(maxsize=256)
def _bind(type_: Any) -> Any:
    return type_.dialect_impl(_DIALECT).bind_processor(_DIALECT)


@lru_cache(maxsize=256)
def _read(type_: Any) -> Any:
    return type_.dialect_impl(_DIALECT).result_processor(_DIALECT, None)


_ARM = """
INSERT INTO onefold_deadlines (kind, key, due_at, payload) VALUES (?, ?, ?, ?)
ON CONFLICT (kind, key) DO UPDATE
SET due_at = excluded.due_at, payload = excluded.payload, fence = fence + 1
"""


async def arm_many(connection: AsyncConnection, deadlines: Sequence[Deadline]) -> None:
    """
    `Transaction.schedule_many`, all of other keys.

    By the driver: SQLAlchemy closes the connection of an executemany that is cancelled, whose
    cursor keeps SQLite's lock until it is collected (test_cancellation.py).
    """
    instant = _bind(schema.deadlines.c.due_at.type)
    rows = [(d.kind, d.key, instant(d.due_at), dump_json(dict(d.payload))) for d in deadlines]
    cursor = await driver_of(connection).executemany(_ARM, rows)
    await cursor.close()
