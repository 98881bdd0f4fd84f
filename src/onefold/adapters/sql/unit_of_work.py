"""
The unit of work over SQLite and PostgreSQL.

BEGIN, COMMIT and ROLLBACK are said here in so many words (the engine is in autocommit),
because what a failure means depends on which of them was on its way.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, Executable, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import DRIVER_ERRORS, at_the_border, at_the_commit
from onefold.adapters.sql.schema import deadlines, inbox, outbox
from onefold.core.envelope import Event
from onefold.core.shard import shard_of
from onefold.core.wire import encode_native
from onefold.errors import IllegalTransition
from onefold.ports.features import Features
from onefold.ports.unit_of_work import Claimed, InboxClaim, Transaction, judge_claims


class SqlTransaction:
    """One open transaction on one connection; see `ports.unit_of_work.Transaction`."""

    def __init__(self, connection: AsyncConnection, database: Database) -> None:
        self._connection: AsyncConnection | None = connection
        self._dialect = database.dialect

    @property
    def features(self) -> Features:
        return self._dialect.FEATURES  # type: ignore[no-any-return]

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        with at_the_border():
            return await self._open().execute(statement, parameters)

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        key = tuple(column.name for column in table.primary_key)
        return await self._insert_new(table, rows, key=key)

    async def _insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]], **how: Any
    ) -> set[tuple[Any, ...]]:
        if not rows:
            return set()
        with at_the_border():
            return await self._dialect.insert_new(self._open(), table, rows, **how)  # type: ignore[no-any-return]

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        return (await self.claim_many(consumer, [InboxClaim(event_id, b"")], now=now))[
            0
        ] is Claimed.FIRST

    async def claim_many(
        self, consumer: str, claims: Sequence[InboxClaim], *, now: datetime
    ) -> Sequence[Claimed]:
        firsts = {claim.event_id: claim.fingerprint for claim in reversed(claims)}
        rows = [
            {"consumer": consumer, "event_id": id_, "fingerprint": print_, "claimed_at": now}
            for id_, print_ in firsts.items()
        ]
        new = {event_id for _, event_id in await self.insert_new(inbox, rows)}
        known = await self._fingerprints(consumer, firsts.keys() - new)
        return judge_claims(claims, new, firsts | known)

    async def _fingerprints(self, consumer: str, ids: Collection[str]) -> dict[str, bytes]:
        if not ids:
            return {}
        mine = (inbox.c.consumer == consumer) & inbox.c.event_id.in_(ids)
        found = await self.execute(select(inbox.c.event_id, inbox.c.fingerprint).where(mine))
        return {row.event_id: row.fingerprint for row in found}

    async def publish(self, *events: Event, now: datetime) -> None:
        rows = [
            {
                "event_id": event.identity,
                "event_type": event.type,
                "key": event.key,
                "body": encode_native(event),
                "published_at": now,
                "shard": shard_of(event),
            }
            for event in events
        ]
        # Not sorted: rows get their positions in the order of publishing.
        await self._insert_new(outbox, rows, key=("event_id",), sort=False)

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        row = {"kind": kind, "key": key, "due_at": due_at, "payload": payload}
        if not await self.insert_new(deadlines, [row]):
            armed = (deadlines.c.kind == kind) & (deadlines.c.key == key)
            await self.execute(
                update(deadlines).where(armed).values(due_at=due_at, payload=payload)
            )

    def end(self) -> None:
        """Refuse every further call."""
        self._connection = None

    def _open(self) -> AsyncConnection:
        if self._connection is None:
            raise IllegalTransition("ended", "a call on this transaction")
        return self._connection


class SqlUnitOfWork:
    """See `ports.unit_of_work.UnitOfWork`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def features(self) -> Features:
        return self._database.dialect.FEATURES  # type: ignore[no-any-return]

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        database = self._database
        async with self._begun(database.writer, database.dialect.BEGIN) as connection:
            async with self._transaction(connection) as tx:
                yield tx
            with at_the_commit():
                await connection.exec_driver_sql("COMMIT")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        database = self._database
        async with self._begun(database.reader, database.dialect.BEGIN_READ) as connection:
            async with self._transaction(connection) as tx:
                yield tx
            with at_the_border():
                await connection.exec_driver_sql("COMMIT")

    async def aclose(self) -> None:
        await self._database.aclose()

    @asynccontextmanager
    async def _transaction(self, connection: AsyncConnection) -> AsyncIterator[Transaction]:
        tx = SqlTransaction(connection, self._database)
        try:
            yield tx
        finally:
            tx.end()

    @asynccontextmanager
    async def _begun(self, engine: AsyncEngine, begin: str) -> AsyncIterator[AsyncConnection]:
        """A connection with a transaction begun; whatever goes wrong, rolled back."""
        with at_the_border():
            connection = await engine.connect()
        try:
            with at_the_border():
                await connection.exec_driver_sql(begin)
            yield connection
        except BaseException:
            await asyncio.shield(_abandon(connection))
            raise
        await asyncio.shield(connection.close())


async def _abandon(connection: AsyncConnection) -> None:
    """Roll back; a connection that cannot even do that is thrown away, which rolls back too."""
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except DRIVER_ERRORS:  # the first error is on its way; this one adds nothing
        await connection.invalidate()
    await connection.close()
