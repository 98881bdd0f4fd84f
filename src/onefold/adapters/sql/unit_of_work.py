"""
The unit of work over SQLite and PostgreSQL.

BEGIN, COMMIT and ROLLBACK are said in so many words (the engine is in autocommit), because
what a failure means depends on which of them was on its way; see `connection.Database`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import CursorResult, Executable, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.errors import at_the_border, at_the_commit
from onefold.adapters.sql.schema import inbox, outbox
from onefold.adapters.sql.updates import plain_update
from onefold.adapters.tasks import OnePerTask
from onefold.core.envelope import Event
from onefold.core.shard import shard_of
from onefold.core.wire import encode_native
from onefold.errors import IllegalTransition
from onefold.ports.deadlines import Deadline
from onefold.ports.features import Features
from onefold.ports.inserts import Inserted, plain_insert
from onefold.ports.unit_of_work import (
    Claimed,
    InboxClaim,
    Transaction,
    check_claims,
    check_deadlines,
    judge_claims,
)


class SqlTransaction:
    """One open transaction on one connection; see `ports.unit_of_work.Transaction`."""

    def __init__(self, connection: AsyncConnection, database: Database, *, writes: bool) -> None:
        self._connection = connection
        self._dialect = database.dialect
        self._state = "open" if writes else "read-only"
        self.published = False

    @property
    def features(self) -> Features:
        return self._dialect.FEATURES  # type: ignore[no-any-return]

    async def execute(
        self, statement: Executable, parameters: Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        plain = plain_insert(statement, parameters)
        with self._call(writes=statement.is_dml):
            if plain is None:
                changed = plain_update(statement, parameters) if statement.is_update else None
                if changed is not None and self._dialect.BULK_UPDATES:
                    count = await self._dialect.update_rows(self._connection, changed)
                    return Inserted(count)  # type: ignore[return-value]
                return await self._connection.execute(statement, parameters)
            await self._dialect.insert_rows(self._connection, *plain)
            return Inserted(len(plain.rows))  # type: ignore[return-value]

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        key = tuple(column.name for column in table.primary_key)
        return await self._insert_new(table, rows, key=key)

    async def _insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]], **how: Any
    ) -> set[tuple[Any, ...]]:
        with self._call(writes=True):
            if not rows:
                return set()
            return await self._dialect.insert_new(self._connection, table, rows, **how)  # type: ignore[no-any-return]

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        (claimed,) = await self.claim_many(consumer, [InboxClaim(event_id, b"")], now=now)
        return claimed is Claimed.FIRST

    async def claim_many(
        self, consumer: str, claims: Sequence[InboxClaim], *, now: datetime
    ) -> Sequence[Claimed]:
        firsts = {claim.event_id: claim for claim in reversed(claims)}
        check_claims(consumer, firsts, now=now)
        with self._call(writes=True):
            new = await self._dialect.claim_new(
                self._connection, consumer, list(firsts.values()), now
            )
        known = await self._fingerprints(consumer, firsts.keys() - new)
        prints = {id_: claim.fingerprint for id_, claim in firsts.items()}
        return judge_claims(claims, new, prints | known)

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
        self.published = True

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        one = Deadline(kind=kind, key=key, due_at=due_at, payload=payload)
        await self._arm([one])

    async def schedule_many(self, many: Sequence[Deadline]) -> None:
        await self._arm(many)

    async def _arm(self, many: Sequence[Deadline]) -> None:
        some = check_deadlines(many)
        with self._call(writes=True):
            if some:
                await self._dialect.arm_many(self._connection, some)

    def _call(self, *, writes: bool) -> "_Call":
        if self._state not in {"open", "read-only"}:
            raise IllegalTransition(self._state, "a call on this transaction")
        if writes and self._state == "read-only":
            raise IllegalTransition(self._state, "a write")
        return _Call(self)

    def fail(self) -> None:
        """
        Allow nothing but a rollback, after a call that failed.

        PostgreSQL would answer a COMMIT with a silent rollback, and SQLite would commit the
        half that went well.
        """
        self._state = "failed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        failed, self._state = self._state == "failed", "ended"
        if failed and error is None:  # and its error was swallowed
            raise IllegalTransition("failed", "a commit")


class _Call:
    """The border of one call of a transaction."""

    __slots__ = ("_tx",)

    def __init__(self, tx: SqlTransaction) -> None:
        self._tx = tx

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._tx.fail()
        at_the_border().__exit__(kind, error, trace)


class SqlUnitOfWork:
    """See `ports.unit_of_work.UnitOfWork`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._one = OnePerTask()
        # Called after a commit that published: tells relays, and may not fail or wait.
        self.on_published: Callable[[], None] = lambda: None

    @property
    def features(self) -> Features:
        return self._database.dialect.FEATURES  # type: ignore[no-any-return]

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        database = self._database
        with self._one.entered():
            async with database.transaction(
                database.writer, database.dialect.BEGIN, at_the_commit
            ) as connection:
                with SqlTransaction(connection, database, writes=True) as tx:
                    yield tx
            if tx.published:
                self.on_published()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        database = self._database
        with self._one.entered():
            async with database.transaction(
                database.reader, database.dialect.BEGIN_READ, at_the_border
            ) as connection:
                with SqlTransaction(connection, database, writes=False) as tx:
                    yield tx

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        """One of our own statements, and a transaction by itself; see `Database.fetch`."""
        with self._one.entered():
            return await self._database.fetch(statement, *values)

    async def aclose(self) -> None:
        await self._database.aclose()
