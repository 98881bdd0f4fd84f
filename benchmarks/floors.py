"""
The floor: the same rows into the same table, by the fastest way each database has.

COPY on PostgreSQL and `executemany` on SQLite, with the rows made, encoded and grouped into
transactions before the clock starts. They fill the product's own `telemetry_events` with its
indexes and foreign keys; pupils and sessions are there. What they leave out is what the
product is for: a repeated id ends them with an error, no session is kept, nobody is asked
for a key. Run in the load's process.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from benchmarks.workload import Event
from sqlalchemy import Dialect
from sqlalchemy.dialects import sqlite

from onefold.adapters.sql.json import dump_json
from onefold_server.domains.telemetry.rules import read_event
from onefold_server.domains.telemetry.tables import events

_COLUMNS = [column.name for column in events.columns]
_SQLITE = sqlite.dialect(json_serializer=dump_json)

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Floor:
    """
    What to write, and where.

    Attributes:
        database_url: As the server's.
        school_id: Whose events they are.
        now: When they are taken to have come.
        groups: For each connection the events of each of its transactions.
    """

    database_url: str
    school_id: UUID
    now: datetime
    groups: Sequence[Sequence[Sequence[Event]]]


def fill(floor: Floor) -> float:
    """Write all of it; the seconds from the first transaction's begin to the last commit."""
    if floor.database_url.startswith("sqlite"):
        return _executemany(floor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_copy(floor))


async def _copy(floor: Floor) -> float:
    """One COPY a transaction, on as many connections as post to the server."""
    work = [[_rows(floor, group) for group in groups] for groups in floor.groups]
    connections = [await asyncpg.connect(floor.database_url) for _ in work]

    async def copy(connection: Any, groups: Sequence[Rows]) -> None:
        for rows in groups:
            await connection.copy_records_to_table(events.name, records=rows, columns=_COLUMNS)

    start = time.perf_counter()
    await asyncio.gather(*map(copy, connections, work))
    elapsed_s = time.perf_counter() - start

    for connection in connections:
        await connection.close()
    return elapsed_s


def _executemany(floor: Floor) -> float:
    """One `executemany` a transaction, on one connection: SQLite has one writer at a time."""
    bind = _binder(_SQLITE)
    work = [
        [bind(row) for row in _rows(floor, group)] for groups in floor.groups for group in groups
    ]
    places = ", ".join("?" * len(_COLUMNS))
    insert = f"INSERT INTO {events.name} ({', '.join(_COLUMNS)}) VALUES ({places})"
    file = floor.database_url.removeprefix("sqlite:///")
    connection = sqlite3.connect(file, isolation_level=None)
    # As the server's own connection: adapters/sql/dialects/sqlite.py.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")

    start = time.perf_counter()
    for rows in work:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, rows)
        connection.execute("COMMIT")
    elapsed_s = time.perf_counter() - start

    connection.close()
    return elapsed_s


def _rows(floor: Floor, group: Sequence[Event]) -> Rows:
    return [tuple(_row(floor, raw)[name] for name in _COLUMNS) for raw in group]


def _row(floor: Floor, raw: Event) -> dict[str, Any]:
    event = read_event(raw, now=floor.now, max_age=None)
    return {
        "school_id": floor.school_id,
        "event_id": event.event_id,
        "session_id": event.session_id,
        "student_id": event.student_id,
        "event_type": event.event_type,
        "occurred_at": event.timestamp,
        "received_at": floor.now,
        "batch_id": event.event_id,
        "mission_id": event.mission_id,
        "game_version": event.game_version,
        "client_version": "2.0.0",
        "data": dump_json(event.data),
        "fingerprint": sha256(event.event_id.bytes).digest(),  # any will do
    }


def _binder(dialect: Dialect) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """How a row's values are bound on *dialect*; `data` is JSON text already."""
    processors = [
        None if column.name == "data" else column.type.dialect_impl(dialect).bind_processor(dialect)
        for column in events.columns
    ]

    def bind(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            process(value) if process else value
            for process, value in zip(processors, row, strict=True)
        )

    return bind
