"""A transaction around a test of SQLAlchemy code, in which that code may really commit."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

__all__ = ["rolled_back", "rolled_back_async", "threadless", "unsynced"]


@contextmanager
def rolled_back(engine: Engine, **options: Any) -> Iterator[Session]:
    """
    A session for one test: whatever it commits is gone after the block.

    `session.commit()` and `rollback()` do what they say, up to the transaction that is
    around all: each ends a savepoint, and begins another. Code that makes sessions of its
    own binds them to `session.connection()` with the same `join_transaction_mode`.

    Args:
        engine: Of the database; its tables must be there.
        options: For the `Session`.
    """
    with engine.connect() as connection:
        around = _begin(connection)
        try:
            with Session(
                connection, join_transaction_mode="create_savepoint", **options
            ) as session:
                yield session
        finally:
            around.rollback()


@asynccontextmanager
async def rolled_back_async(engine: AsyncEngine, **options: Any) -> AsyncIterator[AsyncSession]:
    """As `rolled_back`, for an `AsyncEngine`."""
    async with engine.connect() as connection:
        around = await connection.run_sync(_begin)
        try:
            async with _session(connection, **options) as session:
                yield session
        finally:
            await connection.run_sync(lambda _: around.rollback())


def _session(connection: AsyncConnection, **options: Any) -> AsyncSession:
    return AsyncSession(connection, join_transaction_mode="create_savepoint", **options)


def _begin(connection: Connection) -> Any:
    around = connection.begin()
    if connection.dialect.name == "sqlite":
        # Its driver would begin with the first write, and a savepoint before that would be
        # the transaction itself: its release a commit (SQLAlchemy's manual, "Serializable
        # isolation / Savepoints / Transactional DDL").
        connection.exec_driver_sql("BEGIN")
    return around


@contextmanager
def unsynced(engine: Engine | AsyncEngine) -> Iterator[None]:
    """
    Let SQLite not wait for the disk on connections that are opened in the block.

    For tests in which processes die, and not machines: what a dead process wrote is there
    without having reached the disk. Other databases take no notice.
    """
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def hurry(connection: Any, _record: object) -> None:
        if target.dialect.name == "sqlite":
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous = OFF")
            cursor.close()

    event.listen(target, "connect", hurry)
    try:
        yield
    finally:
        event.remove(target, "connect", hurry)


@contextmanager
def threadless(engine: Engine | AsyncEngine) -> Iterator[None]:
    """
    Let SQLite work in the event loop's own thread on connections that are opened in the block.

    Two hops between threads a statement are most of what exploring a database costs. Other
    databases take no notice. Limit: who waits for another connection's lock blocks the loop,
    and so both of them, for as long as the engine's `timeout`.
    """
    target = engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    def stay(_dialect: object, _record: object, _args: object, named: dict[str, Any]) -> None:
        if target.dialect.driver == "aiosqlite":
            named["async_creator_fn"] = _open_here

    event.listen(target, "do_connect", stay)
    try:
        yield
    finally:
        event.remove(target, "do_connect", stay)


def _open_here(database: str, **named: Any) -> Any:
    import sqlite3  # noqa: PLC0415 (with the driver)

    import aiosqlite  # noqa: PLC0415 (only for who uses it)

    class Here(aiosqlite.Connection):
        """Never starts its thread: what it would be handed is done at once."""

        def __init__(self) -> None:
            super().__init__(lambda: sqlite3.connect(database, **named), iter_chunk_size=64)
            self._tx: Any = _AtOnce()

        def __await__(self) -> Any:
            return self._connect().__await__()

    return Here()


class _AtOnce:
    """The queue to a thread, with nobody at its other end."""

    def put_nowait(self, order: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, work = order
        result = work()  # what it raises is raised to the same caller
        if future is not None:
            future.set_result(result)
